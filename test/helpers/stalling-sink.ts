/** A server that reads the head of each request, and its body only after `goOn`. */

import type http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { type HttpSink, startHttpSink } from './http-sink.ts';

export interface StallingSink extends HttpSink {
  /** Waits until that many requests have begun. */
  begun(count: number): Promise<void>;
  goOn(): void;
}

export async function startStallingSink(): Promise<StallingSink> {
  const waiting: (() => void)[] = [];
  let begun = 0;
  let isOpen = false;
  const sink: HttpSink = await startHttpSink({
    onRequest(request: http.IncomingMessage, response: http.ServerResponse) {
      begun += 1;
      const take = () => {
        sink.take(request).then(
          () => response.writeHead(201).end(),
          () => {},
        );
      };
      if (isOpen) take();
      else waiting.push(take);
    },
  });
  return {
    ...sink,
    async begun(count) {
      while (begun < count) await sleep(20);
    },
    goOn() {
      isOpen = true;
      for (const take of waiting.splice(0)) take();
    },
  };
}

/** Requests to the sidecar or the controller, with a token if it needs one. */

const TOKEN = 'disklift-token';
const [MIN_WAIT_MS, MAX_WAIT_MS] = [1000, 15_000];

export class TokenNeeded extends Error {}

export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export function hasToken() {
  return sessionStorage.getItem(TOKEN) !== null;
}

async function ask(place, signal) {
  const token = sessionStorage.getItem(TOKEN);
  const response = await fetch(place, { headers: token === null ? {} : { Authorization: `Bearer ${token}` }, signal });
  // After 403 the user may have another token that permits access.
  if (response.status === 401 || response.status === 403) throw new TokenNeeded();
  if (!response.ok) throw new Error((await response.text()).trim() || `the server answered ${response.status}`);
  return response;
}

/** @returns the answer, or undefined when it is empty */
export async function getJson(place, signal) {
  const response = await ask(place, signal);
  return response.status === 204 ? undefined : response.json();
}

/**
 * Server-sent events, by fetch since EventSource cannot send a token. Connects again whenever it has to, until `signal` is aborted.
 * @param {{onChanges(changes: object): void, onConnected(): void, onLost(error: Error): void}} handlers
 */
export async function followChanges({ onChanges, onConnected, onLost }, signal) {
  for (let waitMs = MIN_WAIT_MS; ; waitMs = Math.min(2 * waitMs, MAX_WAIT_MS)) {
    try {
      const { body } = await ask('api/v1/changes', signal);
      onConnected();
      waitMs = MIN_WAIT_MS;
      for await (const event of eventsOf(body)) if (event.name === 'changes') onChanges(JSON.parse(event.data));
      onLost(new Error('the server has ended the connection'));
    } catch (error) {
      if (signal.aborted) return;
      onLost(error);
      if (error instanceof TokenNeeded) return;
    }
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    if (signal.aborted) return;
  }
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      yield parseEvent(text.slice(0, end));
      text = text.slice(end + 2);
    }
  }
}

function parseEvent(text) {
  const event = { name: '', data: '' };
  for (const line of text.split('\n')) {
    if (line.startsWith('event: ')) event.name = line.slice(7);
    else if (line.startsWith('data: ')) event.data += line.slice(6);
  }
  return event;
}

/** Headless Chromium, and a page in it whose errors are all recorded. */

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import axe from 'axe-core';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

const CHROMIUM = '/usr/bin/chromium';

/** One browser for a suite. @returns a function that returns it */
export function useBrowser(): () => Browser {
  let browser: Browser | undefined;
  before(async function () {
    if (!existsSync(CHROMIUM)) {
      if (process.env.CI) assert.fail(`${CHROMIUM} is not there`);
      console.error(`    SKIPPED: tests in a browser: ${CHROMIUM} is not there`);
      this.skip();
    }
    // Its sandbox does not run for root.
    const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
    browser = await chromium.launch({ executablePath: CHROMIUM, args });
  });
  after(() => browser?.close());
  return () => browser ?? assert.fail('there is no browser');
}

export interface WatchedPage extends AsyncDisposable {
  page: Page;
  /** Errors of the console and of scripts, dialogs, and requests to other origins. */
  complaints: string[];
  /** The rules that axe-core finds broken, each with its elements. */
  accessibilityProblems(): Promise<string[]>;
}

export async function openPage(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<WatchedPage> {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options });
  const page = await context.newPage();
  const complaints: string[] = [];
  const { origin } = new URL(url);
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => complaints.push(`error: ${error.message}`));
  page.on('dialog', (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== origin) complaints.push(`request: ${request.url()}`);
  });
  await page.goto(url);
  return {
    page,
    complaints,
    async accessibilityProblems() {
      // As the browser's own tools do, past the policy of the page.
      await page.evaluate(axe.source);
      const { violations } = await page.evaluate<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }>(
        "axe.run(document, { resultTypes: ['violations'] })",
      );
      return violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`));
    },
    async [Symbol.asyncDispose]() {
      await context.close();
    },
  };
}

/** The visible map of the first disk, cell by cell. */
export function readMap(page: Page): Promise<string> {
  return page.evaluate<string>(READ_MAP);
}

/** A copy is read, cell by cell, at the centres; `?` is a colour that the legend does not have. */
const READ_MAP = `(() => {
  const canvas = document.querySelector('.map canvas');
  const copyOf = (width, height) => Object.assign(document.createElement('canvas'), { width, height }).getContext('2d', { willReadFrequently: true });
  const [probe, copy] = [copyOf(1, 1), copyOf(canvas.width, canvas.height)];
  copy.drawImage(canvas, 0, 0);
  const read = (context, x, y) => context.getImageData(x, y, 1, 1).data.slice(0, 3).join();
  const rgb = (colour) => {
    probe.fillStyle = colour;
    probe.fillRect(0, 0, 1, 1);
    return read(probe, 0, 0);
  };
  const style = getComputedStyle(canvas);
  const names = { hole: 'h', zero: 'z', data: 'd', sent: 's' };
  const letters = new Map(Object.entries(names).map(([name, letter]) => [rgb(style.getPropertyValue('--map-' + name)), letter]));
  const [columns, cell, count] = [canvas.dataset.columns, canvas.dataset.cell, canvas.dataset.cells].map(Number);
  const centre = (index) => Math.floor(index * cell + cell / 2 - 1);
  return Array.from({ length: count }, (_, index) => letters.get(read(copy, centre(index % columns), centre(Math.floor(index / columns)))) ?? '?').join('');
})()`;

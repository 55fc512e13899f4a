/** `node test/tools/picture-of-page.ts`: draws docs/status-page.png, the page with exports in every state. */

import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { placeholderValues } from '../../src/resource/placeholders.ts';
import { showExports } from '../helpers/exports-on-show.ts';
import { startHttpApp } from '../helpers/http-app.ts';

const FILE = path.join(import.meta.dirname, '..', '..', 'docs', 'status-page.png');

await using app = await startHttpApp({ placeholders: (request, diskPath = 'disk.img') => ({ ...placeholderValues(request, diskPath) }) });
const { goOn } = showExports(app.registry);
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] });
const page = await browser.newPage({ viewport: { width: 1100, height: 700 } });
await page.goto(app.url);
// A rate needs some seconds of progress.
for (let share = 0.4; share < 0.46; share += 0.01) {
  goOn(share);
  await sleep(500);
}
await page.getByText('s left').waitFor();
await page.screenshot({ path: FILE });
await browser.close();

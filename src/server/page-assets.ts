/** The files of the status page, as they lie beside this one. There is no other file that could be asked for. */

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type Response, Router } from 'express';

const DIRECTORY = path.join(import.meta.dirname, 'page');

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.css': 'text/css',
  '.js': 'text/javascript',
  '.svg': 'image/svg+xml',
};

const FILES: Readonly<Record<string, string>> = {
  '/': 'page.html',
  '/page/page.css': 'page.css',
  '/page/page.js': 'page.js',
  '/page/dom.js': 'dom.js',
  '/page/export-row.js': 'export-row.js',
  '/page/disk-panel.js': 'disk-panel.js',
  '/page/disk-map.js': 'disk-map.js',
  '/page/format.js': 'format.js',
  '/page/server.js': 'server.js',
  '/page/icon.svg': 'icon.svg',
};

export function pageAssets(): Router {
  const router = Router();
  for (const [place, name] of Object.entries(FILES)) {
    const body = readFileSync(path.join(DIRECTORY, name));
    const type = `${TYPES[path.extname(name)]}; charset=utf-8`;
    router.get(place, (_request, response: Response) => {
      response.set('Content-Type', type).send(body);
    });
  }
  return router;
}

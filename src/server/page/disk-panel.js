/** One disk of an export: what is known of it, why it failed, and its map. */

import { decodeMap, drawDiskMap } from './disk-map.js';
import { element, setHidden, setText } from './dom.js';
import { formatBytes, formatCount, formatPhase, formatShare, printable } from './format.js';
import { getJson } from './server.js';

const LEGEND = [
  ['sent', 'data, sent'],
  ['data', 'data, to be sent'],
  ['zero', 'zeros, left out'],
  ['hole', 'holes, not even read'],
];

/** @param {{namespace: string, name: string}} owner @param {string} path */
export function createDiskPanel(owner, path) {
  const heading = element('h3', { text: printable(path) });
  const phase = element('span', { class: 'phase small' });
  const failure = createFailure();
  const facts = element('dl', { class: 'facts' });
  const canvas = element('canvas', { attributes: { role: 'img' } });
  const legend = element(
    'ul',
    { class: 'legend', attributes: { 'aria-hidden': 'true' } },
    ...LEGEND.map(([kind, text]) => element('li', { class: kind }, element('span', { text }))),
  );
  const picture = element('div', { class: 'map' }, canvas);
  const figure = element('figure', {}, picture, legend);
  const root = element('section', { class: 'disk' }, element('div', { class: 'disk-head' }, heading, phase), failure.root, figure, facts);
  figure.hidden = true;
  let [map, last, drawn, isAsked] = [undefined, undefined, '', false];

  const observer = new ResizeObserver(() => draw(true));
  observer.observe(picture);

  function draw(isForced = false) {
    if (map === undefined) return;
    const until = last?.phase === 'Succeeded' ? map.totalClusters : (last?.sentUntilCluster ?? map.sentUntilCluster);
    const state = `${until} ${picture.clientWidth}`;
    if (!isForced && state === drawn) return;
    drawn = state;
    drawDiskMap(canvas, map, until);
    canvas.dataset.sentUntilCluster = String(until);
    canvas.setAttribute('aria-label', describe(last, map, until));
  }

  /** A map is there when the disk has been scanned, and another one when it has been scanned again. */
  async function load() {
    isAsked = true;
    const place = `api/v1/exports/${encodeURIComponent(owner.namespace)}/${encodeURIComponent(owner.name)}/map?disk=${encodeURIComponent(path)}`;
    try {
      const found = await getJson(place);
      map = found === undefined ? undefined : decodeMap(found);
    } catch {
      // The next change asks again.
      isAsked = false;
      return;
    }
    setHidden(figure, map === undefined);
    draw(true);
  }

  return {
    root,
    redraw: () => draw(true),
    update(disk, { isAlone }) {
      const isScanned = disk.imageBytes !== undefined && disk.phase !== 'Scanning';
      const wasScanned = last?.imageBytes !== undefined && last.phase !== 'Scanning';
      if (isScanned && !wasScanned) isAsked = false;
      last = disk;
      phase.dataset.phase = disk.phase;
      setText(phase, formatPhase(disk.phase));
      // Of a single disk the line above says it.
      setHidden(phase, isAlone);
      failure.update(disk);
      updateFacts(facts, disk);
      if (isScanned && !isAsked) void load();
      else draw();
    },
    stop: () => observer.disconnect(),
  };
}

/** What is seen, in words. */
function describe(disk, map, until) {
  const { total = map.totalClusters, skipped = 0, written = 0 } = disk.clusters ?? {};
  const share = formatShare(total - skipped, total);
  return `Map of ${printable(disk.path)}: ${share} of the disk is data, the rest zeros and holes; ${
    until >= map.totalClusters ? 'all data has been sent' : `${formatShare(written, total - skipped)} of the data has been sent`
  }.`;
}

export function createFailure() {
  const [reason, message, hint] = [element('strong'), element('p', { class: 'words' }), element('p', { class: 'hint' })];
  const root = element('div', { class: 'failure' }, reason, message, hint);
  root.hidden = true;
  return {
    root,
    update({ phase, reason: code, message: text, hint: advice }) {
      setHidden(root, code === undefined || phase === 'Succeeded');
      root.dataset.phase = phase;
      setText(reason, code ?? '');
      setText(message, text ?? '');
      setText(hint, advice ?? '');
      setHidden(hint, advice === undefined);
    },
  };
}

function updateFacts(list, disk) {
  const { virtualBytes, imageBytes, sentBytes, attempts, clusters, location, sha256, etag } = disk;
  const scanned = disk.scannedBytes;
  const wanted = [
    ['Disk', virtualBytes === undefined ? undefined : formatBytes(virtualBytes)],
    ['Scanned', disk.phase === 'Scanning' && virtualBytes ? formatShare(scanned, virtualBytes) : undefined],
    ['Image', imageBytes === undefined ? undefined : `${formatBytes(imageBytes)}, ${formatShare(imageBytes, virtualBytes)} of the disk`],
    ['Sent', imageBytes === undefined ? undefined : `${formatBytes(sentBytes)}, ${formatShare(sentBytes, imageBytes)}`],
    [
      'Clusters',
      clusters && `${formatCount(clusters.written)} written, ${formatCount(clusters.skipped)} skipped of ${formatCount(clusters.total)}`,
    ],
    ['Attempts', attempts > 1 ? formatCount(attempts) : undefined],
    ['Arrived at', location],
    ['SHA-256', sha256],
    ['ETag', etag],
  ].filter(([, text]) => text !== undefined);
  const names = wanted.map(([name]) => name).join();
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(...wanted.map(([name]) => element('div', {}, element('dt', { text: name }), element('dd'))));
  }
  wanted.forEach(([, text], index) => {
    setText(list.children[index].lastElementChild, text);
  });
}

/** One export: a line, and beneath it, when it is opened, its disks. */

import { createDiskPanel, createFailure } from './disk-panel.js';
import { element, setChildren, setHidden, setText } from './dom.js';
import { formatBytes, formatDuration, formatRate, formatState, formatTime } from './format.js';

let rowCount = 0;

/** The line, with the parts of it that change. */
function createSummary({ name }) {
  rowCount += 1;
  const detailsId = `details-${rowCount}`;
  const state = { type: 'button', 'aria-expanded': 'false', 'aria-controls': detailsId };
  const toggle = element('button', { class: 'toggle', text: name, attributes: state });
  const where = element('span', { class: 'muted where' });
  const phase = element('span', { class: 'phase' });
  const bar = element('progress', { attributes: { max: '100' } });
  const [amount, speed] = [element('span'), element('span')];
  const destination = element('span', { class: 'destination' });
  const retries = element('span', { class: 'retries' });
  const why = element('p', { class: 'why' });
  const root = element(
    'div',
    { class: 'summary' },
    phase,
    element('div', { class: 'who' }, element('h3', {}, toggle), where),
    element('div', { class: 'how-far' }, bar, element('div', { class: 'numbers' }, amount, speed)),
    element('div', { class: 'to' }, destination, retries),
    why,
  );

  return {
    root,
    toggle,
    detailsId,
    /** @param {boolean} isOpen whether the details below say why */
    update(view, isOpen) {
      phase.dataset.phase = view.phase;
      setText(phase, formatState(view, Date.now()));
      setText(where, [view.namespace, sourceOf(view)].filter(Boolean).join(' · '));
      updateBar(bar, view);
      setText(amount, amountOf(view));
      setText(speed, speedOf(view));
      setText(destination, view.destination === undefined ? '' : `${view.destination.kind} ${view.destination.address}`);
      destination.title = view.destination?.address ?? '';
      setText(retries, view.retries === 0 ? '' : view.retries === 1 ? '1 retry' : `${view.retries} retries`);
      setText(why, isOpen ? '' : whyOf(view));
      setHidden(why, why.textContent === '');
    },
  };
}

/** @returns the exported object in words */
function sourceOf({ source }) {
  const words = { PersistentVolumeClaim: 'claim', VolumeSnapshot: 'snapshot', VirtualMachine: 'virtual machine' };
  return source && `${words[source.kind]} ${source.name}`;
}

/** What is beneath the line. */
function createDetails(id) {
  const failure = createFailure();
  const disks = element('div');
  const times = element('p', { class: 'muted times' });
  const root = element('div', { class: 'details', attributes: { id } }, failure.root, disks, times);
  root.hidden = true;
  const panels = new Map();

  return {
    root,
    panels,
    update(view) {
      // The export's message names the disk, and that disk has the same reason.
      const isTold = view.disks.some((disk) => disk.reason !== undefined && disk.reason === view.reason);
      failure.update(isTold || !['Failed', 'Cancelled', 'Pending'].includes(view.phase) ? { phase: view.phase } : view);
      const paths = new Set(view.disks.map(({ path }) => path));
      for (const [path, panel] of panels) {
        if (paths.has(path)) continue;
        panel.stop();
        panels.delete(path);
      }
      for (const { path } of view.disks) if (!panels.has(path)) panels.set(path, createDiskPanel(view, path));
      setChildren(
        disks,
        view.disks.map(({ path }) => panels.get(path).root),
      );
      for (const disk of view.disks) panels.get(disk.path).update(disk, { isAlone: view.disks.length === 1 });
      setText(times, timesOf(view));
    },
  };
}

/** @param {object} view as the API has it @param {(isOpen: boolean) => void} onToggle */
export function createExportRow(view, onToggle) {
  const summary = createSummary(view);
  const details = createDetails(summary.detailsId);
  const root = element('li', { class: 'export' }, summary.root, details.root);
  let last = view;

  function open(isOpen) {
    summary.toggle.setAttribute('aria-expanded', String(isOpen));
    setHidden(details.root, !isOpen);
    summary.update(last, isOpen);
    if (isOpen) details.update(last);
  }

  function update(next) {
    last = next;
    root.dataset.phase = next.phase;
    summary.update(next, !details.root.hidden);
    if (!details.root.hidden) details.update(next);
  }

  summary.toggle.addEventListener('click', () => {
    const isOpen = details.root.hidden;
    open(isOpen);
    onToggle(isOpen);
  });
  update(view);
  return {
    root,
    update,
    open,
    phase: () => last.phase,
    /** Once a second: what is left until the next attempt. */
    tick() {
      if (last.nextAttemptTime !== undefined) summary.update(last, !details.root.hidden);
    },
    redraw() {
      for (const panel of details.panels.values()) panel.redraw();
    },
    stop() {
      for (const panel of details.panels.values()) panel.stop();
    },
  };
}

/** Of a scan there is no image yet to be a share of. */
function scanOf({ phase, disks }) {
  const disk = phase === 'Scanning' ? disks.find((each) => each.phase === 'Scanning') : undefined;
  return disk?.virtualBytes ? { scanned: disk.scannedBytes, total: disk.virtualBytes } : undefined;
}

function updateBar(bar, view) {
  const scan = scanOf(view);
  setHidden(bar, scan === undefined && view.imageBytes === 0);
  const percent = scan === undefined ? view.percent : Math.floor((100 * scan.scanned) / scan.total);
  if (bar.value !== percent || !bar.hasAttribute('value')) bar.value = percent;
  bar.dataset.phase = view.phase;
  bar.setAttribute('aria-label', `${view.name}: ${scan === undefined ? 'sent' : 'scanned'}`);
}

function amountOf(view) {
  const scan = scanOf(view);
  if (scan !== undefined) return `${formatBytes(scan.scanned)} of ${formatBytes(scan.total)} scanned`;
  if (view.imageBytes === 0) return '';
  if (view.phase === 'Succeeded') return `${formatBytes(view.imageBytes)} of ${formatBytes(view.virtualBytes)} disk`;
  return `${view.percent} %, ${formatBytes(view.sentBytes)} of ${formatBytes(view.imageBytes)}`;
}

function speedOf({ phase, bytesPerSecond, etaSeconds, startTime, completionTime }) {
  if (phase === 'Streaming' || phase === 'Scanning') {
    if (bytesPerSecond === undefined) return '';
    const rate = formatRate(bytesPerSecond);
    return etaSeconds === undefined ? rate : `${rate}, ${formatDuration(etaSeconds)} left`;
  }
  if (startTime === undefined || completionTime === undefined) return '';
  return `took ${formatDuration((Date.parse(completionTime) - Date.parse(startTime)) / 1000)}`;
}

function whyOf({ phase, reason, message }) {
  if (phase === 'Failed' || phase === 'Cancelled') return [reason, message].filter(Boolean).join(': ');
  return phase === 'Pending' ? (message ?? '') : '';
}

const CONSISTENCY = {
  Offline: 'consistency Offline: nothing wrote to the disks',
  Application: 'consistency Application: the guest was frozen',
  Crash: 'consistency Crash: the guest was not frozen',
};

function timesOf({ startTime, completionTime, executor, consistency, snapshotTime }) {
  return [
    startTime && `Begun ${formatTime(startTime)}`,
    completionTime && `ended ${formatTime(completionTime)}`,
    executor && `by ${executor}`,
    consistency && CONSISTENCY[consistency],
    snapshotTime && `as of ${formatTime(snapshotTime)}`,
  ]
    .filter(Boolean)
    .join(', ');
}

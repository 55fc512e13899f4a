/** The status page: which exports are shown, and what has changed about them. */

import { element, setChildren, setHidden, setText } from './dom.js';
import { createExportRow } from './export-row.js';
import { formatCount, formatPhase } from './format.js';
import { showSchedules } from './schedules.js';
import { followChanges, getJson, hasToken, keepToken, TokenNeeded } from './server.js';

const RUNNING = ['Scanning', 'Streaming', 'Verifying'];
const GROUPS = [
  { name: 'all', text: 'All', phases: [...RUNNING, 'Pending', 'Succeeded', 'Failed', 'Cancelled'] },
  { name: 'running', text: 'Running', phases: RUNNING },
  { name: 'waiting', text: 'Waiting', phases: ['Pending'] },
  { name: 'arrived', text: 'Arrived', phases: ['Succeeded'] },
  { name: 'failed', text: 'Failed', phases: ['Failed'] },
  { name: 'cancelled', text: 'Cancelled', phases: ['Cancelled'] },
];
const PAGE_SIZE = 50;
const [RELOAD_WAIT_MS, SEARCH_WAIT_MS, TICK_MS, SCHEDULES_MS] = [1000, 250, 1000, 15_000];

const byId = (id) => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const wanted = {
  group: GROUPS.find(({ name }) => name === parameters.get('show')) ?? GROUPS[0],
  search: parameters.get('search') ?? '',
  offset: 0,
};
/** Rows of this page by `NAMESPACE/NAME`. */
let rows = new Map();
/** Phases of exports on other pages. The list is reloaded when such a phase changes, not for each progress. */
const elsewhere = new Map();
/** Rows that the user has opened or closed. */
const opened = new Map();
let [isFirst, reloadTimer, loading, schedulesTimer] = [true, undefined, new AbortController(), undefined];
/** Ends the connection that reads changes: a page has one, however often it logs in. */
let following = new AbortController();

const keyOf = ({ namespace, name }) => `${namespace}/${name}`;

function showCounts(counts, total) {
  for (const { name, phases } of GROUPS) {
    const count = name === 'all' ? total : phases.reduce((sum, phase) => sum + counts[phase], 0);
    setText(byId(`count-${name}`), formatCount(count));
  }
}

function showPage({ counts, total, matched, items, offset, version }) {
  setText(byId('version'), version);
  showCounts(counts, total);
  const next = new Map();
  for (const view of items) {
    const key = keyOf(view);
    const row = rows.get(key) ?? createExportRow(view, (isOpen) => opened.set(key, isOpen));
    row.update(view);
    next.set(key, row);
  }
  for (const [key, row] of rows) if (!next.has(key)) row.stop();
  const created = [...next].filter(([key]) => !rows.has(key));
  rows = next;
  setChildren(
    byId('exports'),
    [...rows.values()].map(({ root }) => root),
  );
  // The first running export is open at first.
  if (isFirst && items[0]?.isLive && opened.size === 0) opened.set(keyOf(items[0]), true);
  isFirst = false;
  for (const [key, row] of created) if (opened.get(key)) row.open(true);
  setHidden(byId('empty'), items.length > 0);
  setText(byId('empty'), total === 0 ? 'There are no exports yet.' : 'No exports match.');
  setHidden(byId('pager'), matched <= PAGE_SIZE);
  setText(byId('range'), `${formatCount(offset + 1)} to ${formatCount(offset + items.length)} of ${formatCount(matched)}`);
  byId('previous').disabled = offset === 0;
  byId('next').disabled = offset + items.length >= matched;
}

async function reload() {
  clearTimeout(reloadTimer);
  reloadTimer = undefined;
  loading.abort();
  loading = new AbortController();
  const query = new URLSearchParams({ search: wanted.search, offset: String(wanted.offset), limit: String(PAGE_SIZE) });
  if (wanted.group !== GROUPS[0]) query.set('phase', wanted.group.phases.join());
  try {
    const page = await getJson(`api/v1/exports?${query}`, loading.signal);
    // Exports have been deleted meanwhile.
    if (page.items.length === 0 && page.matched > 0 && wanted.offset > 0) return goTo(0);
    setHidden(byId('problem'), true);
    showPage(page);
    if (page.hasSchedules) await reloadSchedules(loading.signal);
  } catch (error) {
    if (error.name === 'AbortError') return;
    if (error instanceof TokenNeeded) return askForToken();
    setText(byId('problem'), `The exports cannot be read: ${error.message}`);
    setHidden(byId('problem'), false);
  }
}

/** Changes of schedules are not pushed. */
async function reloadSchedules(signal) {
  clearTimeout(schedulesTimer);
  showSchedules(await getJson('api/v1/schedules', signal));
  schedulesTimer = setTimeout(reload, SCHEDULES_MS);
}

function reloadSoon(waitMs = RELOAD_WAIT_MS) {
  reloadTimer ??= setTimeout(reload, waitMs);
}

function goTo(offset) {
  wanted.offset = Math.max(0, offset);
  return reload();
}

function takeChanges({ counts, total, items, removed, isPartial }) {
  showCounts(counts, total);
  let isOrderOld = isPartial;
  for (const view of items) {
    const row = rows.get(keyOf(view));
    const phase = row === undefined ? elsewhere.get(keyOf(view)) : row.phase();
    if (phase !== view.phase) isOrderOld = true;
    elsewhere.set(keyOf(view), view.phase);
    if (row === undefined) continue;
    if (phase !== view.phase) setText(byId('announcements'), `${view.name}: ${formatPhase(view.phase)}`);
    row.update(view);
  }
  if (isOrderOld || removed.some((key) => rows.has(key))) reloadSoon();
}

function showConnection(state, text) {
  byId('connection').dataset.state = state;
  setText(byId('connection-text'), text);
}

function follow() {
  following.abort();
  following = new AbortController();
  const handlers = {
    onChanges: takeChanges,
    onConnected() {
      showConnection('live', 'live');
      // Exports may have changed while there was no connection.
      void reload();
    },
    onLost(error) {
      const isRefused = error instanceof TokenNeeded;
      showConnection('lost', isRefused ? 'not logged in' : 'connection lost, trying again');
      if (isRefused) askForToken();
    },
  };
  return followChanges(handlers, following.signal);
}

function askForToken() {
  const dialog = byId('login');
  if (dialog.open) return;
  setHidden(byId('login-problem'), !hasToken());
  dialog.showModal();
}

function remember() {
  const shown = new URLSearchParams();
  if (wanted.group !== GROUPS[0]) shown.set('show', wanted.group.name);
  if (wanted.search !== '') shown.set('search', wanted.search);
  history.replaceState(null, '', shown.size === 0 ? location.pathname : `?${shown}`);
}

function createFilters() {
  for (const group of GROUPS) {
    const count = element('span', { class: 'count', attributes: { id: `count-${group.name}` } });
    const button = element(
      'button',
      { class: 'filter', attributes: { type: 'button', 'data-show': group.name } },
      element('span', { text: group.text }),
      count,
    );
    button.addEventListener('click', () => {
      wanted.group = group;
      showPressed();
      remember();
      void goTo(0);
    });
    byId('filters').append(button);
  }
  showPressed();
}

function showPressed() {
  for (const button of byId('filters').children) button.setAttribute('aria-pressed', String(button.dataset.show === wanted.group.name));
}

function listen() {
  byId('search').value = wanted.search;
  byId('search').addEventListener('input', (event) => {
    wanted.search = event.target.value.trim();
    wanted.offset = 0;
    remember();
    clearTimeout(reloadTimer);
    reloadTimer = undefined;
    reloadSoon(SEARCH_WAIT_MS);
  });
  byId('search-form').addEventListener('submit', (event) => event.preventDefault());
  byId('previous').addEventListener('click', () => goTo(wanted.offset - PAGE_SIZE));
  byId('next').addEventListener('click', () => goTo(wanted.offset + PAGE_SIZE));
  byId('login-form').addEventListener('submit', (event) => {
    event.preventDefault();
    keepToken(byId('token').value.trim());
    byId('login').close();
    void follow();
  });
  setInterval(() => {
    for (const row of rows.values()) row.tick();
  }, TICK_MS);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    for (const row of rows.values()) row.redraw();
  });
}

createFilters();
listen();
void follow();

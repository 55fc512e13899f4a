/** The table of schedules: when each runs next, and whether one is overdue. */

import { element, setChildren, setHidden, setText } from './dom.js';
import { formatCount, formatTime } from './format.js';

const byId = (id) => document.getElementById(id);

/** @param {{total: number, items: object[]}} page as /api/v1/schedules has it */
export function showSchedules({ total, items }) {
  setHidden(byId('schedules'), total === 0);
  const problems = items.filter(({ isProblem }) => isProblem).length;
  const shown = total > items.length ? `, ${formatCount(items.length)} shown` : '';
  setText(byId('schedules-counts'), `${formatCount(total)}${problems === 0 ? '' : `, ${formatCount(problems)} with a problem`}${shown}`);
  // A line that has not changed stays, so that its text can be selected.
  const known = [...byId('schedules-rows').children];
  setChildren(
    byId('schedules-rows'),
    items.map(createLine).map((line) => known.find((each) => each.isEqualNode(line)) ?? line),
  );
}

function createLine(view) {
  const { namespace, name, schedule, timeZone = 'UTC', isProblem, message } = view;
  const times = schedule === undefined ? '' : ` · ${schedule} ${timeZone}`;
  return element(
    'tr',
    { attributes: { 'data-key': `${namespace}/${name}` } },
    element('td', {}, element('span', { class: 'phase', text: stateOf(view), attributes: { 'data-phase': phaseOf(view) } })),
    element(
      'td',
      {},
      element('strong', { text: name }),
      element('div', { class: 'muted', text: `${namespace}${times}` }),
      isProblem && message !== undefined ? element('div', { class: 'bad', text: message }) : undefined,
    ),
    element('td', { text: timeOf(view.lastSuccessfulTime, 'none yet') }),
    element('td', { text: timeOf(view.nextScheduleTime, 'none') }),
    element('td', { text: formatCount(view.activeCount) }),
  );
}

function timeOf(timestamp, absent) {
  return timestamp === undefined ? absent : formatTime(timestamp);
}

const STATES = {
  Overdue: 'Overdue',
  NoSuccessYet: 'No success yet',
  ExportSucceeded: 'Up to date',
  Suspended: 'Suspended',
  ExportRefused: 'Refused',
};

function stateOf({ reason, isProblem }) {
  return STATES[reason] ?? (isProblem ? 'Unreadable' : 'New');
}

/** The colour of a state is that of a phase of an export. */
function phaseOf({ reason, isProblem }) {
  if (isProblem) return 'Failed';
  return reason === 'ExportSucceeded' ? 'Succeeded' : reason === 'Suspended' ? 'Cancelled' : 'Pending';
}

/** The page of a controller in a real browser: its schedules, and a replica that does not lead. */

import assert from 'node:assert/strict';
import { schedulePageOf } from '../../src/server/schedule-view.ts';
import { openPage, useBrowser } from '../helpers/browser.ts';
import { showExports } from '../helpers/exports-on-show.ts';
import { startHttpApp, statusOf, storedRequest } from '../helpers/http-app.ts';
import { schedulesOnShow } from '../helpers/schedules-on-show.ts';

const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true };

describe('the page of a controller', function () {
  this.timeout(60_000);
  const browser = useBrowser();

  for (const [where, options] of Object.entries({ 'on a desk': {}, 'in the dark': { colorScheme: 'dark' as const }, 'on a phone': PHONE }))
    it(`shows the state of each schedule, breaks no rule of accessibility and fits, ${where}`, async () => {
      await using app = await startHttpApp({ schedules: () => schedulePageOf(schedulesOnShow()) });
      showExports(app.registry);
      await using shown = await openPage(browser(), app.url, options);
      const { page, complaints } = shown;
      await page.getByText('4, 2 with a problem').waitFor();
      const cells = await page.locator('#schedules-rows td:first-child').allTextContents();
      assert.deepEqual(cells, ['Overdue', 'Unreadable', 'Up to date', 'Suspended']);
      const late = page.getByRole('row').filter({ hasText: 'databases' });
      await late.getByText('vms · 0 2 * * * Europe/Berlin').waitFor();
      await late.getByText('The schedule is overdue since').waitFor();
      await page.getByText('spec.schedule: must have five fields').waitFor();
      assert.deepEqual(await shown.accessibilityProblems(), []);
      const fits = 'document.documentElement.scrollWidth <= document.documentElement.clientWidth';
      assert.ok(await page.evaluate<boolean>(fits), 'nothing lies outside');
      assert.deepEqual(complaints, []);
    });

  it('shows texts of a schedule as text, never as markup', async () => {
    const harm = '<b id="harm">bold</b>';
    const [schedule] = schedulesOnShow();
    assert.ok(schedule !== undefined && typeof schedule.spec !== 'string');
    const hostile = { ...schedule, spec: { ...schedule.spec, timeZone: harm } };
    await using app = await startHttpApp({ schedules: () => schedulePageOf([hostile]) });
    await using shown = await openPage(browser(), app.url);
    await shown.page.getByText(harm).waitFor();
    assert.equal(await shown.page.locator('#harm').count(), 0);
    assert.deepEqual(shown.complaints, []);
  });

  it('shows a schedule that is created while the page is open', async () => {
    let schedules = schedulesOnShow().slice(0, 0);
    await using app = await startHttpApp({ schedules: () => schedulePageOf(schedules) });
    await using shown = await openPage(browser(), app.url);
    const { page, complaints } = shown;
    await page.getByText('There are no exports yet.').waitFor();
    assert.equal(await page.locator('#schedules').isVisible(), false);
    schedules = schedulesOnShow();
    app.registry.onRead('vms/first', storedRequest('first', statusOf('Pending')));
    await page.getByText('databases').waitFor();
    assert.deepEqual(complaints, []);
  });

  it('says of what moment the images are', async () => {
    await using app = await startHttpApp();
    const status = statusOf('Succeeded', { consistency: 'Application', snapshotTime: '2026-01-01T00:00:00Z' });
    app.registry.onRead('vms/db01', storedRequest('db01', status));
    await using shown = await openPage(browser(), app.url);
    const { page } = shown;
    await page.getByRole('button', { name: 'db01' }).click();
    await page.getByText('consistency Application: the guest was frozen, as of').waitFor();
  });

  it('names the way to the leader where a replica does not lead, and shows the exports when it leads', async () => {
    let problem: string | undefined = 'this replica of the controller does not lead; kubectl get lease x shows which one does';
    await using app = await startHttpApp({ exportsProblem: () => problem });
    app.registry.onRead('vms/first', storedRequest('first'));
    await using shown = await openPage(browser(), app.url);
    const { page } = shown;
    await page.getByText('connection lost, trying again').waitFor();
    assert.equal((await app.get('/api/v1/exports')).status, 503);
    assert.equal(await (await app.get('/api/v1/exports/vms/first')).text(), `${problem}\n`);
    problem = undefined;
    await page.getByRole('button', { name: 'first' }).waitFor();
    await page.getByText('live', { exact: true }).waitFor();
  });
});

/** Mocha's spec reporter, with the total as a last line for programs: `12 passed, 0 failed, 3 skipped`. */

import Mocha from 'mocha';

class SpecWithTotal extends Mocha.reporters.Spec {
  override epilogue(): void {
    super.epilogue();
    const { passes, failures, pending } = this.stats;
    Mocha.reporters.Base.consoleLog(`${passes} passed, ${failures} failed${pending > 0 ? `, ${pending} skipped` : ''}`);
  }
}

// Mocha gets reporters by require(), which takes this name for what the module is.
export { SpecWithTotal as 'module.exports' };

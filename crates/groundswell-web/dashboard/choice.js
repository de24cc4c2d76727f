// What this tab looks at, kept by the browser for as long as the tab is there: a page that is loaded again looks at the same.

const NAME = 'groundswell-choice';

/** @typedef {{node: string, machine: string|null, space: string, path: import('./rock.js').PathState['subject']|null}} Choice */

/** @param {Choice} choice */
export function keepChoice(choice) {
  try {
    sessionStorage.setItem(NAME, JSON.stringify(choice));
  } catch {
    // A browser that keeps nothing loses the choice, and nothing else.
  }
}

/** What was looked at before, if it was at the same node: another may have its address now. @param {string} node @returns {Choice|null} */
export function keptChoice(node) {
  try {
    const choice = JSON.parse(sessionStorage.getItem(NAME) ?? 'null');
    return choice?.node === node ? choice : null;
  } catch {
    return null;
  }
}

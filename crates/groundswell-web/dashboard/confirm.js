// The question before anything that can't be undone.

import { byId, setText } from './dom.js';

/**
 * Asks, and does it. The question stays, with what went wrong, until it is done or given up.
 * @param {{title: string, text: string, action: string, run: () => Promise<unknown>}} question @returns {Promise<boolean>} Whether it was done.
 */
export function confirmed({ title, text, action, run }) {
  /** @type {HTMLDialogElement} */
  const dialog = byId('confirm');
  /** @type {HTMLButtonElement} */
  const yes = byId('confirm-yes');
  const no = byId('confirm-no');
  setText(byId('confirm-title'), title);
  setText(byId('confirm-text'), text);
  setText(byId('confirm-error'), '');
  setText(yes, action);
  dialog.showModal();
  // What is harmless is what Enter does at first.
  no.focus();
  return new Promise((resolve) => {
    const stop = new AbortController();
    const { signal } = stop;
    // At once, and not when the browser tells of it: by then the next question may stand there.
    const finish = (/** @type {boolean} */ done) => {
      stop.abort();
      yes.disabled = false;
      if (dialog.open) dialog.close();
      resolve(done);
    };
    no.addEventListener('click', () => finish(false), { signal });
    dialog.addEventListener('cancel', () => finish(false), { signal });
    dialog.addEventListener('close', () => !dialog.open && finish(false), { signal });
    yes.addEventListener('click', async () => {
      yes.disabled = true;
      try {
        await run();
        if (!signal.aborted) finish(true);
      } catch (error) {
        if (signal.aborted) return;
        setText(byId('confirm-error'), `Not done: ${/** @type {Error} */ (error).message}.`);
        yes.disabled = false;
      }
    }, { signal });
  });
}

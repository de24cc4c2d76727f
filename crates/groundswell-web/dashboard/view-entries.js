// The table of entries: of ten thousand rows, those that can be seen. A row belongs to its entry for as long as it is
// there, so that what has the focus never turns into another entry.

import { byId, el, markId, setHidden, setOptions, setText } from './dom.js';
import { clock, count, endWords, shortId } from './words.js';

/** How many rows are there beyond what can be seen, above and below. */
const MARGIN = 8;
/** The most rows: browsers have no taller elements. */
const MOST_ROWS = 250_000;

/** @typedef {import('./entries.js').Row} Row */

export class EntriesView {
  /**
   * @param {import('./model.js').Model} model
   * @param {{look: (machine: string, space: string) => void, open: (row: Row|null) => void, remove: (row: Row) => void, redraw: () => void}} does
   */
  constructor(model, does) {
    this.model = model;
    this.does = does;
    this.grid = byId('entries-grid');
    this.body = byId('entries-body');
    /** @type {Map<string, {node: HTMLElement, update: (row: Row, at: number) => void, move: () => void}>} */
    this.shown = new Map();
    /** @type {Row[]} */
    this.rows = [];
    /** The row that the arrow keys stand on. @type {string|null} */
    this.active = null;
    this.rowHeight = 34;
    this.grid.addEventListener('scroll', does.redraw, { passive: true });
    this.grid.addEventListener('keydown', (event) => this.key(event));
    new ResizeObserver(() => {
      this.measure();
      does.redraw();
    }).observe(this.grid);
    /** @type {HTMLInputElement} */
    const filter = byId('entries-filter');
    /** @type {HTMLSelectElement} */
    const author = byId('entries-author');
    /** @type {HTMLSelectElement} */
    this.machine = byId('entries-machine');
    /** @type {HTMLSelectElement} */
    this.space = byId('entries-space');
    const filtered = () => {
      model.entries.setFilter({ text: filter.value, author: author.value });
      this.grid.scrollTop = 0;
      does.redraw();
    };
    filter.addEventListener('input', filtered);
    author.addEventListener('change', filtered);
    this.machine.addEventListener('change', () => does.look(this.machine.value, ''));
    this.space.addEventListener('change', () => does.look(this.machine.value, this.space.value));
    byId('entries-tools').addEventListener('submit', (event) => event.preventDefault());
    byId('entry-new').addEventListener('click', () => does.open(null));
  }

  /** Whose entries can be chosen. */
  renderChoice() {
    const { machines, looksAt } = this.model;
    if (!looksAt) return;
    const all = machines.values();
    const options = all.map((machine) => ({ value: machine.id, text: machine.own ? 'this machine' : `machine ${shortId(machine.id)}` }));
    if (!all.some((machine) => machine.own)) options.unshift({ value: '*', text: 'all machines' });
    setOptions(this.machine, options, looksAt.machine);
    const looked = all.filter((machine) => looksAt.machine === '*' || machine.id === looksAt.machine);
    const spaces = [...new Set(['', ...looked.flatMap((machine) => machine.spaces)])].sort();
    setOptions(this.space, spaces.map((value) => ({ value, text: value || 'the users’' })), looksAt.space);
    setHidden(byId('space-label'), spaces.length < 2 && looksAt.space === '');
    this.grid.classList.toggle('of-all', looksAt.machine === '*');
  }

  /** How tall a row is, which the style says: a phone's has two lines. */
  measure() {
    const height = parseFloat(getComputedStyle(this.grid).getPropertyValue('--row')) || this.rowHeight;
    // Every row has another place.
    if (height !== this.rowHeight) this.shown.forEach((row) => row.move());
    this.rowHeight = height;
  }

  /** @param {number} now */
  render(now) {
    const { entries, looksAt, machines } = this.model;
    entries.settle(now);
    this.rows = entries.visible.length > MOST_ROWS ? entries.visible.slice(0, MOST_ROWS) : entries.visible;
    this.renderSummary(entries, looksAt, machines);
    const height = `${this.rows.length * this.rowHeight}px`;
    if (this.body.style.height !== height) {
      this.body.style.height = height;
      this.grid.setAttribute('aria-rowcount', String(this.rows.length + 1));
    }
    const first = Math.max(0, Math.floor(this.grid.scrollTop / this.rowHeight) - MARGIN);
    const last = Math.min(this.rows.length, Math.ceil((this.grid.scrollTop + this.grid.clientHeight) / this.rowHeight) + MARGIN);
    const focused = /** @type {HTMLElement|null} */ (this.body.contains(document.activeElement) ? document.activeElement : null);
    const wanted = this.rows.slice(first, last);
    const ids = new Set(wanted.map((row) => row.id));
    for (const [id, { node }] of this.shown) {
      if (ids.has(id)) continue;
      // The focus must not fall out of the table.
      if (focused && node.contains(focused)) this.grid.focus({ preventScroll: true });
      node.remove();
      this.shown.delete(id);
    }
    const stop = this.active !== null && ids.has(this.active) ? this.active : wanted[Math.min(MARGIN, first)]?.id;
    wanted.forEach((row, at) => {
      let shown = this.shown.get(row.id);
      if (!shown) this.shown.set(row.id, (shown = this.make(row)));
      shown.update(row, first + at);
      const tab = row.id === stop ? 0 : -1;
      if (shown.node.tabIndex !== tab) shown.node.tabIndex = tab;
      if (this.body.children[at] !== shown.node) this.body.insertBefore(shown.node, this.body.children[at] ?? null);
    });
    // To move an element takes its focus away.
    if (focused && focused.isConnected && document.activeElement !== focused && document.activeElement !== this.grid) focused.focus({ preventScroll: true });
    // Without a row to stand on, the table itself has to take the focus, to be scrolled.
    const tab = wanted.length === 0 ? 0 : -1;
    if (this.grid.tabIndex !== tab || !this.grid.hasAttribute('tabindex')) this.grid.tabIndex = tab;
  }

  /** @param {import('./entries.js').Entries} entries @param {import('./model.js').Model['looksAt']} looksAt @param {import('./model.js').List<any>} machines */
  renderSummary(entries, looksAt, machines) {
    const held = [...entries.machines.values()];
    const behind = held.filter((machine) => !machine.caughtUp).length;
    const rereading = held.some((machine) => machine.resetting);
    const shown = this.rows.length === entries.count ? '' : `${count(this.rows.length)} shown of `;
    const state = rereading ? ' The node was restarted: they are being read again.' : behind > 0 ? ' Catching up.' : '';
    setText(byId('entries-summary'), looksAt?.ended ? endWords(looksAt.ended) : `${shown}${count(entries.count)} ${entries.count === 1 ? 'entry' : 'entries'}.${state}`);
    const none = byId('entries-none');
    setHidden(none, this.rows.length > 0);
    setText(none, entries.count > 0 ? 'No entry matches the filter.' : behind > 0 || !machines.caughtUp ? 'Reading…' : 'There is no entry yet.');
  }

  /** @param {Row} first */
  make(first) {
    const cell = (/** @type {string} */ name) => el('span', { class: name, attrs: { role: 'gridcell' } });
    const [key, value, of, author, written, actions] = ['key', 'value', 'of', 'author', 'written', 'actions'].map(cell);
    let row = first;
    const edit = el('button', { class: 'small', text: 'Edit', attrs: { type: 'button', tabindex: '-1', 'aria-label': `Edit ${first.keyText}` }, on: { click: () => this.does.open(row) } });
    const remove = el('button', { class: 'small', text: 'Delete…', attrs: { type: 'button', tabindex: '-1', 'aria-label': `Delete ${first.keyText}` }, on: { click: () => this.does.remove(row) } });
    actions.append(edit, remove);
    const node = el('div', { class: 'grid-row', attrs: { role: 'row', tabindex: '-1' }, on: {
      focusin: () => { this.active = row.id; },
      dblclick: () => this.does.open(row),
    } }, key, value, of, author, written, actions);
    setBytes(key, first.keyText, first.keyHex, false);
    if (first.keyText === '') key.append(el('i', { text: 'the empty key' }));
    key.title = first.keyText;
    const whose = el('span', { class: 'mono', text: shortId(first.machine) });
    markId(whose, first.machine);
    of.append(whose);
    of.title = first.machine;
    let version = -1;
    let at = -1;
    const update = (/** @type {Row} */ next, /** @type {number} */ place) => {
      row = next;
      if (at !== place) {
        at = place;
        node.style.transform = `translateY(${place * this.rowHeight}px)`;
        node.setAttribute('aria-rowindex', String(place + 2));
      }
      if (row.version === version) return;
      setBytes(value, row.value, row.valueHex, row.cut);
      if (row.value === '') value.append(el('i', { text: 'the empty value' }));
      value.title = row.value;
      setText(author, row.deletedAt ? `deleted by ${row.author}` : row.author);
      setText(written, clock(row.timestamp));
      written.title = new Date(row.timestamp).toISOString();
      node.classList.toggle('deleted', row.deletedAt > 0);
      // Two names for one movement: it begins anew only under another name.
      if (version >= 0 && row.changedAt > 0) node.dataset.flash = node.dataset.flash === 'a' ? 'b' : 'a';
      version = row.version;
    };
    update(first, at);
    return { node, update, move: () => { at = -1; } };
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.target instanceof HTMLButtonElement || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.rows.findIndex((row) => row.id === this.active);
    const page = Math.max(1, Math.floor(this.grid.clientHeight / this.rowHeight) - 2);
    /** @type {Record<string, number>} */
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: this.rows.length - 1 };
    if (event.key in moves) {
      event.preventDefault();
      this.goTo(Math.min(this.rows.length - 1, Math.max(0, moves[event.key])));
    } else if (event.key === 'Enter' && at >= 0) {
      event.preventDefault();
      this.does.open(this.rows[at]);
    } else if (event.key === 'Delete' && at >= 0) {
      event.preventDefault();
      this.does.remove(this.rows[at]);
    }
  }

  /** @param {number} at */
  goTo(at) {
    const row = this.rows[at];
    if (!row) return;
    this.active = row.id;
    const head = this.rowHeight;
    const top = at * this.rowHeight;
    if (top < this.grid.scrollTop) this.grid.scrollTop = top;
    else if (top + this.rowHeight + head > this.grid.scrollTop + this.grid.clientHeight) this.grid.scrollTop = top + this.rowHeight + head - this.grid.clientHeight;
    this.render(performance.timeOrigin + performance.now());
    this.shown.get(row.id)?.node.focus({ preventScroll: true });
  }

  /** After a dialog: back to the entry, or to the table if it is gone. @param {string|null} id */
  focus(id) {
    const shown = id === null ? undefined : this.shown.get(id);
    (shown?.node ?? this.grid).focus({ preventScroll: true });
  }
}

/** @param {HTMLElement} node @param {string} text @param {boolean} hex @param {boolean} cut */
function setBytes(node, text, hex, cut) {
  setText(node, cut ? `${text}…` : text);
  if (hex) node.prepend(el('abbr', { class: 'hex', text: 'hex', title: 'These bytes are no UTF-8 text' }), ' ');
}

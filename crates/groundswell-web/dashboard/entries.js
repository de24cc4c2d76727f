// The entries of one machine, or of all: rows in the order of their keys' bytes, changed in place by events.
// Pure: no page, no clock of its own.

import { bytesOf, hex, keyOf, printable, textOf } from './bytes.js';

/** How much of a value a row keeps, in characters; the whole is read when somebody looks at it. */
export const PREVIEW = 400;
/** How long a deleted row still stands there, struck through, in milliseconds: the time to see who deleted it. */
export const DELETED_MS = 4000;

/**
 * @typedef {object} Row
 * @property {string} id The machine and the key.
 * @property {string} machine
 * @property {string} key As a byte string.
 * @property {string} keyText What is shown.
 * @property {boolean} keyHex Whether that is hex, because it is no UTF-8.
 * @property {string} value What is shown: the beginning.
 * @property {boolean} valueHex
 * @property {number} size Of the value, in bytes; -1 where it was not counted.
 * @property {boolean} cut Whether there is more of it.
 * @property {'machine'|'manager'} author
 * @property {number} timestamp
 * @property {number} changedAt When a live change came; 0 for the first view.
 * @property {number} deletedAt 0 while it is there.
 * @property {number} round In which round of its machine it was seen.
 * @property {number} version Rises with each change of the row.
 * @property {boolean} shown Whether the filter lets it through.
 * @property {string|null} haystack What a filter looks at, once one has.
 */

export class Entries {
  constructor() {
    /** @type {Map<string, Row>} */
    this.rows = new Map();
    /** @type {Row[]} */
    this.sorted = [];
    /** @type {Row[]} Not yet among the sorted. */
    this.fresh = [];
    /** @type {Row[]} What the filter lets through, in order; after `settle`. */
    this.visible = this.sorted;
    /** @type {Map<string, {round: number, resetting: boolean, caughtUp: boolean}>} */
    this.machines = new Map();
    /** @type {Row[]} Struck through. */
    this.dying = [];
    this.filter = { text: '', author: '' };
    this.gone = false;
    this.stirred = false;
  }

  /** How many there are. */
  get count() {
    return this.rows.size - this.dying.length;
  }

  /** @param {string} machine */
  machine(machine) {
    let held = this.machines.get(machine);
    if (!held) this.machines.set(machine, (held = { round: 0, resetting: false, caughtUp: false }));
    return held;
  }

  /** @param {any} event @param {number} now */
  put(event, now) {
    const key = keyOf(event);
    const id = `${event.machine} ${key}`;
    let row = this.rows.get(id);
    if (!row) {
      row = newRow(id, event, key);
      this.rows.set(id, row);
      this.fresh.push(row);
    }
    setValue(row, event);
    row.author = event.author;
    row.timestamp = event.timestamp;
    row.round = this.machine(event.machine).round;
    row.version += 1;
    if (event.live) row.changedAt = now;
    if (row.deletedAt) this.revive(row);
    row.haystack = null;
    this.judge(row);
    return row;
  }

  /** @param {Row} row */
  revive(row) {
    row.deletedAt = 0;
    this.dying.splice(this.dying.indexOf(row), 1);
  }

  /** @param {any} event @param {number} now */
  delete(event, now) {
    const row = this.rows.get(`${event.machine} ${keyOf(event)}`);
    if (!row || row.deletedAt) return;
    if (!event.live) return this.drop(row);
    Object.assign(row, { author: event.author, timestamp: event.timestamp, changedAt: now, deletedAt: now, version: row.version + 1 });
    this.dying.push(row);
    this.judge(row);
  }

  /** It is not of this view any more. @param {any} event */
  left(event) {
    const row = this.rows.get(`${event.machine} ${keyOf(event)}`);
    if (row) this.drop(row);
  }

  /** @param {Row} row */
  drop(row) {
    this.rows.delete(row.id);
    if (row.deletedAt) this.revive(row);
    row.round = -1;
    this.gone = true;
  }

  /** What is held of a machine no longer counts; what follows replaces it, and the rest goes at `caughtUp`. @param {string} machine */
  reset(machine) {
    const held = this.machine(machine);
    held.round += 1;
    held.resetting = true;
    held.caughtUp = false;
  }

  /** @param {string} machine */
  caughtUp(machine) {
    const held = this.machine(machine);
    held.caughtUp = true;
    if (!held.resetting) return;
    held.resetting = false;
    for (const row of this.rows.values()) if (row.machine === machine && row.round !== held.round) this.drop(row);
  }

  /** @param {string} machine */
  forget(machine) {
    this.machines.delete(machine);
    for (const row of this.rows.values()) if (row.machine === machine) this.drop(row);
  }

  /** What is held of other machines is of some that are there no more. @param {string[]} machines */
  keepOnly(machines) {
    for (const machine of [...this.machines.keys()]) if (!machines.includes(machine)) this.forget(machine);
  }

  clear() {
    const { filter } = this;
    Object.assign(this, new Entries(), { filter });
  }

  /** @param {{text: string, author: string}} filter */
  setFilter(filter) {
    this.filter = { text: filter.text.toLowerCase(), author: filter.author };
    for (const row of this.rows.values()) this.judge(row);
    this.stirred = true;
  }

  /** @param {Row} row */
  judge(row) {
    const { text, author } = this.filter;
    const shown = (text === '' || (row.haystack ??= haystack(row)).includes(text)) && (author === '' || row.author === author);
    if (shown !== row.shown) this.stirred = true;
    row.shown = shown;
  }

  /** Brings `visible` up to date. @param {number} now @returns {boolean} Whether rows came, went or moved. */
  settle(now) {
    for (const row of this.dying.filter((dying) => now - dying.deletedAt >= DELETED_MS)) this.drop(row);
    const moved = this.gone || this.fresh.length > 0;
    if (this.gone) this.sorted = this.sorted.filter((row) => row.round >= 0);
    if (this.fresh.length > 0) {
      const added = this.fresh.filter((row) => row.round >= 0).sort(compare);
      this.sorted = this.sorted.length === 0 ? added : merge(this.sorted, added);
      this.fresh = [];
    }
    this.gone = false;
    if (!moved && !this.stirred) return false;
    this.stirred = false;
    const filtered = this.filter.text !== '' || this.filter.author !== '';
    this.visible = filtered ? this.sorted.filter((row) => row.shown) : this.sorted;
    return true;
  }
}

/** By key, then machine: the same key of all machines stands together. @param {Row} a @param {Row} b */
function compare(a, b) {
  if (a.key !== b.key) return a.key < b.key ? -1 : 1;
  return a.machine < b.machine ? -1 : a.machine > b.machine ? 1 : 0;
}

/** @param {Row[]} left @param {Row[]} right @returns {Row[]} */
function merge(left, right) {
  const all = [];
  let at = 0;
  for (const row of right) {
    while (at < left.length && compare(left[at], row) <= 0) all.push(left[at++]);
    all.push(row);
  }
  while (at < left.length) all.push(left[at++]);
  return all;
}

/** @param {string} id @param {any} event @param {string} key @returns {Row} */
function newRow(id, event, key) {
  const text = event.key_base64 === undefined ? event.key ?? '' : null;
  return {
    id, machine: event.machine, key, keyText: text === null ? hex(key) : printable(text), keyHex: text === null,
    value: '', valueHex: false, size: 0, cut: false, author: event.author, timestamp: 0, changedAt: 0, deletedAt: 0,
    round: 0, version: 0, shown: true, haystack: null,
  };
}

/** @param {Row} row @param {any} event */
function setValue(row, event) {
  if (event.value_base64 === undefined) {
    const value = event.value ?? '';
    row.valueHex = false;
    row.cut = value.length > PREVIEW;
    row.size = row.cut ? -1 : value.length;
    row.value = printable(row.cut ? value.slice(0, PREVIEW) : value);
  } else {
    const base64 = event.value_base64;
    row.valueHex = true;
    row.size = (base64.length / 4) * 3 - (base64.endsWith('==') ? 2 : base64.endsWith('=') ? 1 : 0);
    row.cut = row.size > PREVIEW / 3;
    row.value = hex(atob(row.cut ? base64.slice(0, 4 * Math.floor(PREVIEW / 9)) : base64));
  }
}

/** @param {Row} row */
function haystack(row) {
  return `${row.keyText}\n${row.value}\n${row.machine}`.toLowerCase();
}

/** A key that somebody typed, back from a row. @param {Row} row @returns {string} As text, or hex. */
export function editableKey(row) {
  return row.keyHex ? row.keyText : textOf(bytesOf(row.key)) ?? '';
}

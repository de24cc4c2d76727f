// What becomes of a rock when a wave comes, for the lakes that every node knows: the same wash as the node's, so that
// a page need not read a large rock again at each wave. And the state of the one path that is looked at.

import { clone, hasMembers, numberOf, setMember } from './json.js';

/** How many waves of the past are shown. */
export const SHOWN_WAVES = 20;

/** A wave that cannot be washed here: the rock has to be read again. */
export class Unwashable extends Error {}

/**
 * The next rock. The given one may be changed in place, and is worth nothing after an error.
 * @param {string|null} lake @param {any} rock @param {any} wave @returns {any}
 */
export function fold(lake, rock, wave) {
  if (lake === 'log' && Array.isArray(rock) && typeof wave === 'string') {
    rock.push(wave);
    return rock;
  }
  if (lake === 'sum') {
    return numberOf(String(BigInt(String(rock)) + BigInt(String(wave))));
  }
  if (lake === 'json' && Array.isArray(wave)) return wave.reduce(patch, rock);
  throw new Unwashable(`a wave of the lake ${lake}`);
}

/** One operation of a JSON Patch (RFC 6902). @param {any} document @param {any} operation @returns {any} */
function patch(document, operation) {
  const path = pointer(operation.path);
  switch (operation.op) {
    case 'add':
      return add(document, path, clone(operation.value));
    case 'replace':
      return path.length === 0 ? clone(operation.value) : add(remove(document, path), path, clone(operation.value));
    case 'remove':
      return remove(document, path);
    case 'copy':
      return add(document, path, clone(read(document, pointer(operation.from))));
    case 'move': {
      const value = read(document, pointer(operation.from));
      return add(remove(document, pointer(operation.from)), path, value);
    }
    case 'test':
      return document; // The publisher's wash has passed it.
    default:
      throw new Unwashable(`the operation ${operation.op}`);
  }
}

/** @param {string} text A JSON Pointer (RFC 6901). @returns {string[]} */
function pointer(text) {
  if (text === '') return [];
  if (typeof text !== 'string' || text[0] !== '/') throw new Unwashable(`the pointer ${text}`);
  return text.slice(1).split('/').map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** @param {any} document @param {string[]} path */
function read(document, path) {
  return path.reduce((at, name) => {
    if (!hasMembers(at) || !Object.hasOwn(at, name)) throw new Unwashable(`nothing at ${name}`);
    return at[name];
  }, document);
}

/** @param {any} document @param {string[]} path @param {any} value */
function add(document, path, value) {
  if (path.length === 0) return value;
  const parent = read(document, path.slice(0, -1));
  const name = path[path.length - 1];
  if (Array.isArray(parent)) {
    const at = name === '-' ? parent.length : Number(name);
    if (!(at >= 0 && at <= parent.length)) throw new Unwashable(`the index ${name}`);
    parent.splice(at, 0, value);
  } else if (hasMembers(parent)) {
    setMember(parent, name, value);
  } else {
    throw new Unwashable(`no place for ${name}`);
  }
  return document;
}

/** @param {any} document @param {string[]} path */
function remove(document, path) {
  if (path.length === 0) return null;
  const parent = read(document, path.slice(0, -1));
  const name = path[path.length - 1];
  read(parent, [name]);
  if (Array.isArray(parent)) parent.splice(Number(name), 1);
  else delete parent[name];
  return document;
}

/** The state of one path, from its events. */
export class PathState {
  /** @param {{kind: 'publication'|'subscription', peer?: string, agent: string, path: string, lake: string|null}} subject */
  constructor(subject) {
    this.subject = subject;
    this.lake = subject.lake;
    /** @type {number|null} */
    this.aeon = null;
    /** @type {any} */
    this.rock = undefined;
    /** The aeon of the rock: behind `aeon` while the rock has to be read. @type {number|null} */
    this.rockAeon = null;
    /** @type {{aeon: number, wave: any, live: boolean, at: number}[]} Newest first. */
    this.waves = [];
    this.stale = false;
    this.caughtUp = false;
    /** @type {string|null} `not_available`, `killed`, or why it ended. */
    this.word = null;
    /** @type {string|null} */
    this.detail = null;
  }

  /** Whether the rock that is held is not that of the newest aeon. */
  get needsRead() {
    return this.aeon !== null && this.rockAeon !== this.aeon && this.caughtUp;
  }

  /** @param {any} event @param {number} now In milliseconds. */
  apply(event, now) {
    switch (event.type) {
      case 'update':
        this.update(event, now);
        break;
      case 'caught_up':
        this.caughtUp = true;
        this.word = null;
        if (event.aeon !== undefined) this.aeon = event.aeon;
        if (event.rock !== undefined) this.setRock(event.aeon, event.rock);
        break;
      case 'freshness':
        this.stale = event.state !== 'live';
        this.detail = event.detail ?? null;
        break;
      case 'not_available':
      case 'killed':
        this.word = event.type;
        this.stale = true;
        this.caughtUp = true;
        break;
      case 'ended':
        this.word = event.reason;
        this.detail = event.detail ?? null;
        this.stale = true;
        this.caughtUp = true;
        break;
    }
  }

  /** @param {any} event @param {number} now */
  update(event, now) {
    this.word = null;
    this.stale = event.stale;
    const hasWave = event.wave !== undefined;
    if (hasWave) {
      this.waves.unshift({ aeon: event.aeon, wave: event.wave, live: event.live, at: now });
      this.waves.length = Math.min(this.waves.length, SHOWN_WAVES);
    } else {
      this.waves = [];
    }
    this.aeon = event.aeon;
    if (event.rock !== undefined) {
      this.setRock(event.aeon, event.rock);
    } else if (hasWave && this.rock !== undefined && this.rockAeon === event.aeon - 1) {
      try {
        this.setRock(event.aeon, fold(this.lake, this.rock, event.wave));
      } catch {
        this.rock = undefined;
        this.rockAeon = null;
      }
    }
  }

  /** @param {number} aeon @param {any} rock */
  setRock(aeon, rock) {
    this.rock = rock;
    this.rockAeon = aeon;
  }

  /** The answer to a read. A rock from before the waves that came meanwhile is worth less than the next read. @param {any} state */
  read(state) {
    if (state.aeon === null || (this.rockAeon !== null && state.aeon < this.rockAeon)) return;
    this.lake = state.lake;
    this.setRock(state.aeon, state.rock);
    if (this.aeon === null || state.aeon > this.aeon) this.aeon = state.aeon;
  }
}

// What the mock node keeps: the view of a key-value document and the tide of a path, each with readers that are
// cursors.

import { randomBytes } from 'node:crypto';

import { fold } from '../rock.js';

/** @param {Buffer} bytes @param {string} name */
function words(bytes, name) {
  const text = bytes.toString('utf8');
  return Buffer.from(text, 'utf8').equals(bytes) ? { [name]: text } : { [`${name}_base64`]: bytes.toString('base64') };
}

const view = (held) => ({ ...words(held.key, 'key'), ...words(held.value, 'value'), author: held.author, timestamp: held.timestamp });

/** The newest entry of each key, indexed by its change. */
export class Kv {
  constructor() {
    this.epoch = randomBytes(16).toString('hex');
    this.aeon = 0;
    /** @type {Map<string, object>} By the key's bytes. */
    this.held = new Map();
    /** @type {{aeon: number, id: string}[]} */
    this.changes = [];
  }

  get keys() {
    return this.held.size;
  }

  /** Forgets what cursors meant. */
  restart() {
    this.epoch = randomBytes(16).toString('hex');
  }

  change(held) {
    this.aeon += 1;
    held.aeon = this.aeon;
    const id = held.key.toString('latin1');
    this.held.set(id, held);
    this.changes.push({ aeon: this.aeon, id });
    if (this.changes.length > 4 * this.held.size + 1000) this.changes = this.changes.filter((change) => this.held.get(change.id).aeon === change.aeon);
    return held;
  }

  put(key, value, author, timestamp) {
    return view(this.change({ key, value, author, timestamp }));
  }

  delete(key, author, timestamp) {
    const had = this.held.get(key.toString('latin1'));
    if (!had?.value) return false;
    this.change({ key, value: null, author, timestamp });
    return true;
  }

  get(key) {
    const held = this.held.get(key.toString('latin1'));
    return held?.value ? held : null;
  }

  list(query) {
    const limit = Number(query.text('limit') ?? 1000);
    const after = query.bytes('after');
    const all = [...this.held.values()].filter((held) => held.value && matches(held, query)).sort((a, b) => Buffer.compare(a.key, b.key));
    const rest = after ? all.filter((held) => Buffer.compare(held.key, after) > 0) : all;
    const entries = rest.slice(0, limit).map(view);
    if (query.text('values') === 'false') entries.forEach((entry) => (delete entry.value, delete entry.value_base64));
    return { entries, more: rest.length > limit };
  }

  /** @param {string|undefined} from */
  reader(from, query) {
    return new KvReader(this, from, query);
  }
}

function matches(held, query) {
  const keys = query.all('key');
  const prefixes = query.all('prefix');
  const [start, end, author] = [query.bytes('start'), query.bytes('end'), query.text('author')];
  const ranged = start || end;
  const inRange = ranged && (!start || Buffer.compare(held.key, start) >= 0) && (!end || Buffer.compare(held.key, end) < 0);
  const free = keys.length === 0 && prefixes.length === 0 && !ranged;
  const some = free || inRange || keys.some((key) => key.equals(held.key)) || prefixes.some((prefix) => prefix.equals(held.key.subarray(0, prefix.length)));
  return some && (!author || author === held.author);
}

class KvReader {
  constructor(kv, from, query) {
    this.kv = kv;
    this.query = query;
    this.from = from;
    this.fresh = true;
    this.aeon = 0;
    this.caughtUp = false;
    this.deletes = false;
  }

  cursor() {
    return `${this.kv.epoch}:${this.aeon}`;
  }

  next() {
    if (this.fresh) {
      this.fresh = false;
      this.epoch = this.kv.epoch;
      if (this.from) {
        const [epoch, aeon] = this.from.split(':');
        if (epoch === this.kv.epoch && Number(aeon) >= 0) {
          this.aeon = Number(aeon);
          this.deletes = true;
        } else {
          return { type: 'reset', reason: /^[0-9a-f]{32}:\d+$/.test(this.from) ? 'other_epoch' : 'unknown_cursor', cursor: this.cursor() };
        }
      }
    }
    const { changes, held } = this.kv;
    let low = 0;
    for (let high = changes.length; low < high;) {
      const middle = (low + high) >> 1;
      if (changes[middle].aeon > this.aeon) high = middle;
      else low = middle + 1;
    }
    for (; low < changes.length; low += 1) {
      const change = changes[low];
      const now = held.get(change.id);
      this.aeon = change.aeon;
      if (now.aeon !== change.aeon) continue;
      const more = { live: this.caughtUp, cursor: this.cursor() };
      if (!matches(now, this.query)) {
        const { query } = this;
        if (query.text('author') && matches({ ...now, author: query.text('author') }, query) && this.deletes) return { type: 'left', ...words(now.key, 'key'), ...more };
        continue;
      }
      if (now.value) return { type: 'put', ...view(now), ...more };
      if (this.deletes) return { type: 'delete', ...words(now.key, 'key'), author: now.author, timestamp: now.timestamp, ...more };
    }
    if (this.caughtUp) return null;
    this.caughtUp = true;
    this.deletes = true;
    return { type: 'caught_up', cursor: this.cursor() };
  }
}

/** A publication or a replica, with every wave. */
export class MockPath {
  constructor({ kind, peer, path, lake, freshness = 'live', owner }) {
    Object.assign(this, { kind, peer, path, lake, freshness, owner });
    this.epoch = randomBytes(16).toString('hex');
    /** @type {number|null} */
    this.aeon = 0;
    this.rock = { log: [], sum: 0, json: null }[lake];
    this.waves = [];
    this.rocks = [structuredClone(this.rock)];
    this.sampled = 0;
  }

  give(wave) {
    this.rock = fold(this.lake, this.rock, wave);
    this.waves.push(wave);
    this.aeon = this.waves.length;
  }

  copy(other) {
    for (const wave of other.waves) this.give(wave);
  }

  common() {
    const perSecond = (this.aeon ?? 0) - this.sampled;
    this.sampled = this.aeon ?? 0;
    return { lake: this.lake, aeon: this.aeon, waves_per_second: perSecond, kept_waves: this.waves.length, kept_rocks: 2, readers: 1, reader_lag: 0, rule: { frequency: 'auto', horizon: 1000 } };
  }

  publication() {
    const access = this.lake === 'log' ? 'public' : this.lake === 'sum' ? 'secret' : [this.owner];
    return { agent: 'main', path: this.path, ...this.common(), access, killed: false };
  }

  subscription() {
    const live = this.freshness === 'live';
    const now = Date.now();
    this.since ??= now - 95_000;
    return {
      source: { peer: this.peer, agent: 'main', path: this.path }, ...this.common(), freshness: this.freshness, stale: !live, detail: null,
      since_ms: live ? null : this.since, current_at_ms: this.freshness === 'not_available' ? null : live ? now : this.since,
      lag_ms: live ? 0 : this.freshness === 'not_available' ? null : now - this.since,
    };
  }

  state() {
    return { agent: 'main', path: this.path, source: this.peer, lake: this.lake, aeon: this.aeon, rock: this.aeon === null ? null : this.rock, stale: this.freshness !== 'live', fail: null };
  }

  reader(from, query) {
    return new PathReader(this, from, query);
  }
}

class PathReader {
  constructor(held, from, query) {
    const [epoch, aeon] = (from ?? '').split(':');
    this.held = held;
    this.rocks = query.text('rocks') ?? 'needed';
    this.begun = epoch === held.epoch && Number(aeon) <= (held.aeon ?? 0);
    this.aeon = this.begun ? Number(aeon) : 0;
    this.said = false;
    this.caughtUp = false;
    const last = Number(query.text('last') ?? 0);
    if (!this.begun && last > 0) {
      this.begun = true;
      this.aeon = Math.max(0, (held.aeon ?? 0) - last);
    }
  }

  next() {
    const { held } = this;
    const stale = held.freshness !== 'live';
    if (held.kind === 'subscription' && !this.said) {
      this.said = true;
      return { type: 'freshness', state: held.freshness };
    }
    if (held.aeon === null) {
      if (this.caughtUp) return null;
      this.caughtUp = true;
      return { type: 'not_available' };
    }
    const cursor = () => `${held.epoch}:${this.aeon}`;
    if (!this.begun) {
      this.begun = true;
      this.aeon = held.aeon;
      return { type: 'update', aeon: this.aeon, ...(this.rocks === 'never' ? {} : { rock: held.rock }), live: false, stale, cursor: cursor() };
    }
    if (this.aeon < held.aeon) {
      const wave = held.waves[this.aeon];
      this.aeon += 1;
      return { type: 'update', aeon: this.aeon, wave, live: this.caughtUp, stale, cursor: cursor() };
    }
    if (this.caughtUp) return null;
    this.caughtUp = true;
    return { type: 'caught_up', aeon: this.aeon, ...(this.rocks === 'never' ? {} : { rock: held.rock }) };
  }
}

/** @param {string} text @returns {[string, string]} */
export function splitTopic(text) {
  const at = text.indexOf('?');
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

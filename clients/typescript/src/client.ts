// The client of one node.

import { GroundswellError } from './error.js';
import { entryOf, ofBytes, type KvEntry, type KvEvent } from './event.js';
import { encodeFilter, encodeKey, type Key, type KvFilter } from './filter.js';
import { follow, type FollowOptions } from './follow.js';
import type { components } from './openapi.js';

type Schemas = components['schemas'];

export interface Options {
  /** Where the node's interface is, such as `http://127.0.0.1:4700/`; in a page of the node's own, it may be left out. */
  readonly url?: string | URL;
  /** The text of the file `http-token` in the data directory. A page has its session cookie instead. */
  readonly token?: string;
  /** Another `fetch`, for tests and proxies. */
  readonly fetch?: typeof fetch;
}

/** How a key is written. */
export interface WriteOptions {
  /**
   * An id of this write: 1 to 128 visible characters of ASCII, without spaces. Sent again with it, the write is not done again, and has the same result: so repeat a
   * write whose outcome is unknown. Ids have to ascend in the long run, as UUIDs of version 7 do.
   */
  readonly id?: string;
}

/** How many entries are asked for at once. */
const PAGE = 1000;

/**
 * A node's key-value store. A machine is named by its id; `self` is the node's own, if it is a machine. All methods
 * throw `GroundswellError` for what the node refuses, and whatever `fetch` throws if there is no node.
 */
export class Groundswell {
  readonly #base: URL;
  readonly #token: string | undefined;
  readonly #fetch: typeof fetch;

  constructor(options: Options = {}) {
    const here = (globalThis as { location?: { href: string } }).location?.href;
    const url = options.url ?? here;
    if (url === undefined) throw new TypeError('where is the node? give `url`');
    this.#base = new URL('api/v1/', new URL(url, here));
    this.#token = options.token?.trim();
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
  }

  /** The node itself. */
  async node(): Promise<Schemas['Node']> {
    return (await this.#ask('GET', 'node')).json();
  }

  /** The machines of a manager, or the machine itself, with their status. */
  async machines(): Promise<Schemas['Machine'][]> {
    const answer: { machines: Schemas['Machine'][] } = await (await this.#ask('GET', 'machines')).json();
    return answer.machines;
  }

  /** The entry of a key; null if it has none. */
  async getKvValue(machine: string, key: Key, space = ''): Promise<KvEntry | null> {
    let response;
    try {
      response = await this.#ask('GET', entryPath(machine, key, space));
    } catch (error) {
      // A machine that is not known has the same status, and is an error.
      if (error instanceof GroundswellError && error.kind === 'no-entry') return null;
      throw error;
    }
    const author = response.headers.get('groundswell-author') === 'manager' ? 'manager' : 'machine';
    const timestamp = Number(response.headers.get('groundswell-timestamp'));
    const value = ofBytes(new Uint8Array(await response.arrayBuffer()));
    return { key: ofBytes(typeof key === 'string' ? new TextEncoder().encode(key) : key), value, author, timestamp };
  }

  /** Gives a key a value. It is durable on the node's device when this returns; the other side gets it by itself. */
  async setKvValue(machine: string, key: Key, value: Key, space = '', options: WriteOptions = {}): Promise<KvEntry> {
    const body = typeof value === 'string' ? new TextEncoder().encode(value) : value;
    return entryOf(await (await this.#ask('PUT', entryPath(machine, key, space), body, options.id)).json());
  }

  /** Deletes a key. Returns whether it had a value. */
  async deleteKvValue(machine: string, key: Key, space = '', options: WriteOptions = {}): Promise<boolean> {
    const response = await this.#ask('DELETE', entryPath(machine, key, space), undefined, options.id);
    const answer: { deleted: boolean } = await response.json();
    return answer.deleted;
  }

  /**
   * Whether everything that was written on this node's side, in any space, is at the other side: durable there, and seen.
   * It is waited for `withinSeconds`, 60 at most; what is not there by then goes there by itself. After a start of the
   * node it is false until the other side was reached.
   */
  async isDelivered(machine: string, withinSeconds = 0): Promise<boolean> {
    const path = `machines/${encodeURIComponent(machine)}/delivered?within=${withinSeconds}`;
    const answer: { delivered: boolean } = await (await this.#ask('GET', path)).json();
    return answer.delivered;
  }

  /** The entries that match, in the order of their keys' bytes, read page by page as they are asked for. */
  async *getKvEntries(machine: string, filter: KvFilter = {}): AsyncGenerator<KvEntry, void, void> {
    const query = encodeFilter(filter);
    let after: Uint8Array | null = null;
    for (;;) {
      const parts: string[] = [`limit=${PAGE}`, ...(query ? [query] : []), ...(after ? [`after=${encodeKey(after)}`] : [])];
      const response = await this.#ask('GET', `machines/${encodeURIComponent(machine)}/entries?${parts.join('&')}`);
      const page: { entries: Schemas['Entry'][]; more: boolean } = await response.json();
      const entries = page.entries.map(entryOf);
      yield* entries;
      const last = entries.at(-1);
      if (!page.more || !last) return;
      after = last.key.bytes;
    }
  }

  /** Follows one key: first its present entry, if it has one, then `caught_up`, then every change. */
  watchKvKey(machine: string, key: Key, options: FollowOptions & { readonly space?: string } = {}): AsyncGenerator<KvEvent, void, void> {
    const filter: KvFilter = options.space === undefined ? { keys: [key] } : { keys: [key], space: options.space };
    return this.subscribeKvEntries(machine, filter, options);
  }

  /** Follows the entries of a machine that match: first the present ones, then `caught_up`, then every change. */
  subscribeKvEntries(machine: string, filter: KvFilter = {}, options: FollowOptions = {}): AsyncGenerator<KvEvent, void, void> {
    return this.#follow(`machines/${encodeURIComponent(machine)}/events`, encodeFilter(filter), options);
  }

  /** Follows the entries of all machines of a manager, those of tomorrow too. */
  subscribeAllKvEntries(filter: KvFilter = {}, options: FollowOptions = {}): AsyncGenerator<KvEvent, void, void> {
    const query = encodeFilter(filter);
    const topic = `kv?machine=*${query ? `&${query}` : ''}`;
    return this.#follow('stream', `topic=${encodeURIComponent(topic)}`, options);
  }

  #follow(path: string, query: string, options: FollowOptions): AsyncGenerator<KvEvent, void, void> {
    return follow((from, signal) => {
      const parts = [...(query ? [query] : []), ...(from ? [`from=${encodeURIComponent(from)}`] : [])];
      return this.#send('GET', parts.length > 0 ? `${path}?${parts.join('&')}` : path, undefined, signal);
    }, options);
  }

  async #ask(method: string, path: string, body?: Uint8Array, id?: string): Promise<Response> {
    const response = await this.#send(method, path, body, undefined, id);
    if (!response.ok) throw await GroundswellError.of(response);
    return response;
  }

  #send(method: string, path: string, body?: Uint8Array, signal?: AbortSignal, id?: string): Promise<Response> {
    const request: RequestInit = { method, credentials: 'same-origin', cache: 'no-store' };
    const headers: Record<string, string> = {};
    if (this.#token !== undefined) headers['authorization'] = `Bearer ${this.#token}`;
    if (id !== undefined) headers['idempotency-key'] = id;
    request.headers = headers;
    if (body !== undefined) request.body = body as BodyInit;
    if (signal) request.signal = signal;
    return this.#fetch(new URL(path, this.#base), request);
  }
}

function entryPath(machine: string, key: Key, space: string): string {
  return `machines/${encodeURIComponent(machine)}/entry?key=${encodeKey(key)}${space ? `&space=${encodeKey(space)}` : ''}`;
}

// Entries and events, as they are on the wire and as the client hands them out.

import type { components } from './openapi.js';

type Schemas = components['schemas'];

/** A key or a value: any bytes, and their text where they are UTF-8. */
export interface Bytes {
  readonly bytes: Uint8Array;
  /** Null where the bytes are no UTF-8. */
  readonly text: string | null;
}

/** An entry. */
export interface KvEntry {
  readonly key: Bytes;
  readonly value: Bytes;
  /** Which side wrote it. */
  readonly author: Schemas['Author'];
  /** The writer's wall clock, in milliseconds since 1970; for people, it decides nothing. */
  readonly timestamp: number;
}

interface Place {
  /** The machine whose entry it is. */
  readonly machine: string;
  /** Where to go on from: give it as `from`. */
  readonly cursor: string;
}

/** What happens to the entries that are followed. */
export type KvEvent =
  /** The key has this entry now. `live` is false in the first view. */
  | (Place & { readonly type: 'put'; readonly entry: KvEntry; readonly live: boolean })
  | (Place & { readonly type: 'delete'; readonly key: Bytes; readonly author: Schemas['Author']; readonly timestamp: number; readonly live: boolean })
  /** The key has an entry still, which no longer matches the filter. */
  | (Place & { readonly type: 'left'; readonly key: Bytes; readonly live: boolean })
  /** Forget what you hold of this machine: the present state follows, up to `caught_up`. */
  | (Place & { readonly type: 'reset'; readonly reason: string })
  /** All is here, and what follows is live: of this machine, or with `machines` of all. It comes again after each reconnection. */
  | { readonly type: 'caught_up'; readonly machine: string | null; readonly machines: readonly string[] | null; readonly cursor: string }
  /** The machine is this manager's no more: forget what you hold of it. */
  | { readonly type: 'gone'; readonly machine: string; readonly cursor: string }
  /** The last one: `shut_down`, `released`, `failed`, … */
  | { readonly type: 'ended'; readonly reason: string; readonly detail: string | null; readonly cursor: string };

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Bytes that came as bytes. */
export function ofBytes(bytes: Uint8Array): Bytes {
  try {
    return { bytes, text: decoder.decode(bytes) };
  } catch {
    return { bytes, text: null };
  }
}

function ofJson(text: string | undefined, base64: string | undefined): Bytes {
  if (base64 === undefined) return { bytes: encoder.encode(text ?? ''), text: text ?? '' };
  return { bytes: Uint8Array.from(atob(base64), (char) => char.charCodeAt(0)), text: null };
}

/** An entry of an answer or an event. */
export function entryOf(json: Schemas['Entry']): KvEntry {
  return {
    key: ofJson(json.key, json.key_base64),
    value: ofJson(json.value, json.value_base64),
    author: json.author,
    timestamp: json.timestamp,
  };
}

/** An event of a stream; null for those that only the client itself needs, and those of a later version. */
export function eventOf(json: Schemas['Event'], id: string): KvEvent | null {
  switch (json.type) {
    case 'put':
      return { type: 'put', entry: entryOf(json), live: json.live, machine: json.machine, cursor: id };
    case 'delete': {
      const { author, timestamp, live, machine } = json;
      return { type: 'delete', key: ofJson(json.key, json.key_base64), author, timestamp, live, machine, cursor: id };
    }
    case 'left':
      return { type: 'left', key: ofJson(json.key, json.key_base64), live: json.live, machine: json.machine, cursor: id };
    case 'reset':
      return { type: 'reset', reason: json.reason, machine: json.machine, cursor: id };
    case 'caught_up':
      return { type: 'caught_up', machine: json.machine ?? null, machines: json.machines ?? null, cursor: id };
    case 'gone':
      return { type: 'gone', machine: json.machine, cursor: id };
    case 'ended':
      return { type: 'ended', reason: json.reason, detail: json.detail ?? null, cursor: id };
    default:
      return null;
  }
}

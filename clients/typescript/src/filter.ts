// Which entries are meant, and how that is said in a query.

/** A key: text, or any bytes. */
export type Key = string | Uint8Array;

/** Entries that match any of the keys, the prefixes and the range, and the author. An empty filter is everything. */
export interface KvFilter {
  readonly keys?: readonly Key[];
  readonly prefixes?: readonly Key[];
  /** From this key on, in the order of their bytes. */
  readonly start?: Key;
  /** Before this key. */
  readonly end?: Key;
  readonly author?: 'machine' | 'manager';
  /** The space; without it the users' own. */
  readonly space?: string;
}

const encoder = new TextEncoder();

/** A key as the value of a query: each byte that is not unreserved is percent-encoded. */
export function encodeKey(key: Key): string {
  let text = '';
  for (const byte of typeof key === 'string' ? encoder.encode(key) : key) {
    const char = String.fromCharCode(byte);
    text += /[A-Za-z0-9\-._~]/.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return text;
}

/** A filter as a query, without a question mark. */
export function encodeFilter(filter: KvFilter): string {
  const parts = [
    ...(filter.keys ?? []).map((key) => `key=${encodeKey(key)}`),
    ...(filter.prefixes ?? []).map((prefix) => `prefix=${encodeKey(prefix)}`),
  ];
  if (filter.start !== undefined) parts.push(`start=${encodeKey(filter.start)}`);
  if (filter.end !== undefined) parts.push(`end=${encodeKey(filter.end)}`);
  if (filter.author !== undefined) parts.push(`author=${filter.author}`);
  if (filter.space) parts.push(`space=${encodeKey(filter.space)}`);
  return parts.join('&');
}

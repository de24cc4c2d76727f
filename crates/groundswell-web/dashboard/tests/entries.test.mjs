// The table of entries as events change it.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { DELETED_MS, Entries, PREVIEW } from '../entries.js';

const put = (key, value, more = {}) => ({ type: 'put', machine: 'm', key, value, author: 'machine', timestamp: 1, live: true, ...more });
const shown = (entries, now = 0) => {
  entries.settle(now);
  return entries.visible.map((row) => `${row.keyText}=${row.value}`);
};

test('rows stand in the order of their keys, in whatever order they come', () => {
  const entries = new Entries();
  for (const key of ['b', 'a', 'c']) entries.put(put(key, '1'), 0);
  assert.deepEqual(shown(entries), ['a=1', 'b=1', 'c=1']);
  entries.put(put('ab', '2'), 0);
  entries.put(put('', '3'), 0);
  assert.deepEqual(shown(entries), ['=3', 'a=1', 'ab=2', 'b=1', 'c=1']);
});

test('a change keeps the row, and does not move the others', () => {
  const entries = new Entries();
  entries.put(put('a', '1'), 0);
  entries.settle(0);
  const [row] = entries.visible;
  entries.put(put('a', '2', { author: 'manager', timestamp: 9 }), 5);
  assert.equal(entries.settle(5), false, 'nothing moved');
  assert.equal(entries.visible[0], row);
  assert.deepEqual([row.value, row.author, row.timestamp, row.changedAt], ['2', 'manager', 9, 5]);
});

test('the same key of two machines is two rows, side by side', () => {
  const entries = new Entries();
  for (const machine of ['n', 'm']) for (const key of ['a', 'b']) entries.put(put(key, machine, { machine }), 0);
  assert.deepEqual(shown(entries), ['a=m', 'a=n', 'b=m', 'b=n']);
  entries.forget('m');
  assert.deepEqual(shown(entries), ['a=n', 'b=n']);
});

test('a deleted row says who deleted it, and goes after a while', () => {
  const entries = new Entries();
  entries.put(put('a', '1'), 0);
  entries.delete({ machine: 'm', key: 'a', author: 'manager', timestamp: 7, live: true }, 100);
  entries.settle(100);
  assert.deepEqual([entries.visible[0].deletedAt, entries.visible[0].author, entries.count], [100, 'manager', 0]);
  entries.settle(100 + DELETED_MS);
  assert.deepEqual([entries.visible.length, entries.rows.size, entries.dying.length], [0, 0, 0]);
});

test('a key that is written again after its deletion stays', () => {
  const entries = new Entries();
  entries.put(put('a', '1'), 0);
  entries.delete({ machine: 'm', key: 'a', author: 'machine', timestamp: 7, live: true }, 100);
  entries.put(put('a', '2'), 200);
  assert.deepEqual(shown(entries, 100 + 2 * DELETED_MS), ['a=2']);
  assert.equal(entries.count, 1);
});

test('a deletion from before the view leaves no trace', () => {
  const entries = new Entries();
  entries.put(put('a', '1'), 0);
  entries.delete({ machine: 'm', key: 'a', author: 'machine', timestamp: 7, live: false }, 100);
  assert.deepEqual(shown(entries, 100), []);
});

test('a reset keeps the rows on the screen until the snapshot is whole, then drops what it did not have', () => {
  const entries = new Entries();
  for (const key of ['a', 'b']) entries.put(put(key, '1'), 0);
  entries.put(put('b', '1', { machine: 'n' }), 0);
  entries.reset('m');
  assert.equal(entries.machine('m').caughtUp, false);
  entries.put(put('a', '2', { live: false }), 0);
  assert.deepEqual(shown(entries), ['a=2', 'b=1', 'b=1']);
  entries.caughtUp('m');
  assert.deepEqual(shown(entries), ['a=2', 'b=1'], 'the other machine keeps its own');
});

test('catching up without a reset drops nothing', () => {
  const entries = new Entries();
  entries.put(put('a', '1'), 0);
  entries.caughtUp('m');
  entries.caughtUp('m');
  assert.deepEqual(shown(entries), ['a=1']);
});

test('a filter looks at keys, values and authors, and goes on with every change', () => {
  const entries = new Entries();
  entries.put(put('price/tea', '1.80'), 0);
  entries.put(put('stock/tea', '40'), 0);
  entries.setFilter({ text: 'PRICE', author: '' });
  assert.deepEqual(shown(entries), ['price/tea=1.80']);
  entries.put(put('price/water', '1.50', { author: 'manager' }), 0);
  assert.deepEqual(shown(entries), ['price/tea=1.80', 'price/water=1.50']);
  entries.setFilter({ text: '', author: 'manager' });
  assert.deepEqual(shown(entries), ['price/water=1.50']);
  entries.put(put('price/water', '1.50', { author: 'machine' }), 0);
  assert.deepEqual(shown(entries), [], 'it left the filter');
});

test('keys and values that are no UTF-8 are hex, and say so; a key of the same digits is another', () => {
  const entries = new Entries();
  entries.put({ ...put(undefined, undefined), key_base64: '/wA=', value_base64: 'AAEC' }, 0);
  entries.put(put('ff 00', '1'), 0);
  entries.settle(0);
  const [text, bytes] = entries.visible;
  assert.deepEqual([bytes.keyText, bytes.keyHex, bytes.value, bytes.valueHex, bytes.size], ['ff 00', true, '00 01 02', true, 3]);
  assert.deepEqual([text.keyText, text.keyHex], ['ff 00', false]);
});

test('a megabyte costs a row no more than its beginning', () => {
  const entries = new Entries();
  entries.put(put('big', 'x'.repeat(1 << 20)), 0);
  entries.put({ ...put('bytes', undefined), value_base64: Buffer.alloc(1 << 20).toString('base64') }, 0);
  for (const row of entries.rows.values()) {
    assert.ok(row.cut);
    assert.ok(row.value.length <= PREVIEW, `${row.value.length}`);
  }
});

test('ten thousand rows come in, and one changes among them, within a frame', () => {
  const entries = new Entries();
  const begun = performance.now();
  for (let n = 0; n < 10_000; n += 1) entries.put(put(`sensor/${(n * 7919) % 10_000}`, String(n), { live: false }), 0);
  entries.settle(0);
  const first = performance.now() - begun;
  assert.equal(entries.visible.length, 10_000);
  const changing = performance.now();
  entries.put(put('sensor/77', 'new'), 1);
  entries.settle(1);
  const change = performance.now() - changing;
  // The time is under test; both are a tenth of what the page may take.
  assert.ok(first < 500, `${first} ms`);
  assert.ok(change < 16, `${change} ms`);
});

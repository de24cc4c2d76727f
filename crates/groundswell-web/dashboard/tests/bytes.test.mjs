// Any bytes as a key or a value: shown so that nothing is hidden, sent as they are.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { byteString, bytesOf, hex, keyOf, parseHex, percent, printable, textOf, utf8 } from '../bytes.js';

test('every byte survives the way to a query and back', () => {
  const all = byteString(Uint8Array.from({ length: 256 }, (_, byte) => byte));
  const back = percent(all).replace(/%(..)/g, (_, digits) => String.fromCharCode(parseInt(digits, 16)));
  assert.equal(back, all);
  assert.match(percent(all), /^[A-Za-z0-9\-._~%]*$/);
});

test('a key is the same byte string whether it came as text or as base64', () => {
  assert.equal(keyOf({ key: 'prix/café' }), keyOf({ key_base64: Buffer.from('prix/café').toString('base64') }));
  assert.equal(keyOf({ key: '' }), '');
  assert.deepEqual([...bytesOf(keyOf({ key_base64: '/wAQ' }))], [255, 0, 16]);
});

test('keys compare in the order of their bytes, where UTF-16 has another', () => {
  const [private_use, emoji] = [utf8('\ue000'), utf8('😀')];
  assert.ok('\ue000' > '😀', 'UTF-16 has them the other way round');
  assert.ok(private_use < emoji);
});

test('hex goes both ways, and refuses what is none', () => {
  assert.equal(hex('\xff\x00\x10'), 'ff 00 10');
  assert.deepEqual([...(parseHex('ff 00 10') ?? [])], [255, 0, 16]);
  assert.deepEqual([...(parseHex('') ?? [1])], []);
  assert.equal(parseHex('f'), null);
  assert.equal(parseHex('fg'), null);
});

test('what is no UTF-8 is not made into text', () => {
  assert.equal(textOf(Uint8Array.of(0xff)), null);
  assert.equal(textOf(Uint8Array.of(0xef, 0xbb, 0xbf)), '\ufeff');
});

test('what cannot be seen is made visible', () => {
  assert.equal(printable('a\nb\0'), 'a␊b␀');
  assert.equal(printable('price\u202e05.1'), 'price\\u{202e}05.1');
});

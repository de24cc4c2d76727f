// Server-sent events, however the bytes are cut.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Parser } from '../dist/sse.js';

const STREAM = ': a comment\nretry: 10\n\nevent: put\nid: 1\ndata: {"a":\ndata: 1}\n\ndata:no space\r\nid: 2\r\n\r\nid: 3\n\ndata: last\n\n';
const EVENTS = [{ data: '{"a":\n1}', id: '1' }, { data: 'no space', id: '2' }, { data: 'last', id: '3' }];

test('a stream gives the same events wherever it is cut', () => {
  for (let at = 0; at <= STREAM.length; at += 1) {
    const parser = new Parser();
    assert.deepEqual([...parser.push(STREAM.slice(0, at)), ...parser.push(STREAM.slice(at))], EVENTS, `cut at ${at}`);
  }
});

test('half an event is no event, and an endless one is refused', () => {
  const parser = new Parser();
  assert.deepEqual(parser.push('data: half\n'), []);
  assert.throws(() => { for (let n = 0; n < 10; n += 1) parser.push('x'.repeat(1 << 20)); }, /longer/);
});

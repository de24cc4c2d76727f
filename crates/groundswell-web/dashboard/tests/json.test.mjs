// Numbers come through a page as they are written.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { clone, Numeral, parse, stringify } from '../json.js';
import { fold, PathState } from '../rock.js';
import { parseEvent } from '../stream.js';

const NUMBERS = [
  '0', '-0', '1', '1.0', '-1.50', '1e3', '1E+3', '1e400', '-1e-400', '0.1', '0.10', '1.7976931348623157e308', '9007199254740991',
  '9007199254740992', '9007199254740993', '-9007199254740993', '18446744073709551615', '-9223372036854775808', '3.14159265358979323846',
];

test('every number keeps its text, wherever it stands', () => {
  for (const number of NUMBERS) {
    for (const text of [number, `[${number}]`, `{"a":${number}}`, `[[{"a":[${number},${number}]}],"${number}"]`]) {
      assert.equal(stringify(parse(text)), text);
      assert.equal(stringify(clone(parse(text))), text);
      assert.deepEqual(JSON.parse(stringify(parse(text))), JSON.parse(text), 'it is the same JSON');
    }
    assert.equal(String(parseEvent(`{"type":"update","aeon":1,"rock":{"id":${number}}}`).rock.id), number === '-0' ? '-0' : number);
    assert.equal(stringify(parseEvent(`{"type":"update","aeon":1,"wave":[{"op":"add","path":"/a","value":${number}}]}`).wave[0].value), number);
  }
});

test('a number that a page has is a number', () => {
  assert.deepEqual(parse('[0,1,-7,0.5,9007199254740991,1e+21]'), [0, 1, -7, 0.5, 9007199254740991, 1e21]);
  assert.ok(parse('9007199254740993') instanceof Numeral);
  assert.equal(parse('9007199254740993') - 1, 9007199254740991, 'one that is not can be counted with, roughly');
});

test('what is beside a document stays numbers', () => {
  const event = parseEvent('{"type":"publication","topic":0,"publication":{"waves_per_second":1.0,"rock":1.0}}');
  assert.deepEqual(event, { type: 'publication', topic: 0, publication: { waves_per_second: 1, rock: 1 } });
});

test('it reads what JSON.parse reads, and refuses what that refuses', () => {
  const good = ['null', ' [ ] ', '\t{\n"a" : [ true , false , null ] , "b":{}}\r\n', '"\\u0000\\"\\\\/\\ud83d\\ude00"', '{"__proto__":{"x":1}}', '[[[[]]]]', '"a\u2028b"'];
  for (const text of good) assert.deepEqual(parse(text), JSON.parse(text), text);
  const bad = ['', ' ', '[', ']', '[1,]', '[,1]', '{', '{"a"}', '{"a":}', '{"a":1,}', '{a:1}', '01', '1.', '.5', '+1', '1e', '-', 'nul', 'NaN', 'Infinity', '"', '"\\"', '"\n"', '"\\x"', '1 2', '[1]]', "'a'", '[1 2]'];
  for (const text of bad) {
    assert.throws(() => JSON.parse(text), text);
    assert.throws(() => parse(text), SyntaxError, text);
  }
  assert.equal({}.x, undefined);
});

test('a patch moves and copies numbers as they are', () => {
  const wave = parse('[{"op":"add","path":"/b","value":{"n":18446744073709551615}},{"op":"copy","from":"/b","path":"/c"},{"op":"move","from":"/a","path":"/d"}]');
  const rock = fold('json', parse('{"a":1.0}'), wave);
  assert.equal(stringify(rock), '{"b":{"n":18446744073709551615},"c":{"n":18446744073709551615},"d":1.0}');
  assert.throws(() => fold('json', parse('{"a":1.0}'), parse('[{"op":"add","path":"/a/text","value":1}]')), 'a number has no members');
});

test('a sum is exact', () => {
  assert.equal(String(fold('sum', parse('9223372036854775806'), 1)), '9223372036854775807');
  assert.equal(fold('sum', parse('9007199254740993'), -9007199254740993n), 0);
  const path = new PathState({ kind: 'publication', agent: 'main', path: '/p', lake: 'sum' });
  path.apply(parseEvent('{"type":"update","aeon":1,"rock":9223372036854775800,"live":true,"stale":false}'), 0);
  path.apply(parseEvent('{"type":"update","aeon":2,"wave":-9223372036854775807,"live":true,"stale":false}'), 0);
  assert.equal(path.rock, -7);
});

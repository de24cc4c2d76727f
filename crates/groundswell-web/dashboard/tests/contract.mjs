// Checks values against the schemas of openapi.json: as much of JSON Schema as that document uses.

import { readFileSync } from 'node:fs';

export const DOCUMENT = JSON.parse(readFileSync(new URL('../../openapi.json', import.meta.url), 'utf8'));

const TYPES = {
  string: (value) => typeof value === 'string',
  integer: Number.isInteger,
  number: (value) => typeof value === 'number',
  boolean: (value) => typeof value === 'boolean',
  null: (value) => value === null,
  array: Array.isArray,
  object: (value) => value !== null && typeof value === 'object' && !Array.isArray(value),
};

/** @param {any} schema @param {any} value @param {string} [at] @returns {string[]} What is wrong. */
export function breaches(schema, value, at = '') {
  if (schema.$ref) return breaches(resolve(schema.$ref), value, at);
  const wrong = [];
  const types = schema.type === undefined ? [] : [schema.type].flat();
  if (types.length > 0 && !types.some((type) => TYPES[type](value))) return [`${at}: ${JSON.stringify(value)} is no ${types}`];
  if ('const' in schema && value !== schema.const) wrong.push(`${at}: ${JSON.stringify(value)} is not ${schema.const}`);
  if (schema.enum && !schema.enum.includes(value)) wrong.push(`${at}: ${JSON.stringify(value)} is none of ${schema.enum}`);
  if (schema.pattern && typeof value === 'string' && !new RegExp(schema.pattern).test(value)) wrong.push(`${at}: ${value} is not like ${schema.pattern}`);
  if (schema.minimum !== undefined && typeof value === 'number' && value < schema.minimum) wrong.push(`${at}: ${value} is too small`);
  for (const part of schema.allOf ?? []) wrong.push(...breaches(part, value, at));
  if (schema.oneOf) {
    const fits = schema.oneOf.filter((part) => breaches(part, value, at).length === 0).length;
    if (fits !== 1) wrong.push(`${at}: ${JSON.stringify(value)?.slice(0, 200)} fits ${fits} of ${schema.oneOf.length}`);
  }
  if (TYPES.object(value)) {
    for (const name of schema.required ?? []) if (!(name in value)) wrong.push(`${at}: without ${name}`);
    for (const [name, part] of Object.entries(schema.properties ?? {})) if (name in value) wrong.push(...breaches(part, value[name], `${at}/${name}`));
  }
  if (Array.isArray(value) && schema.items) value.forEach((item, index) => wrong.push(...breaches(schema.items, item, `${at}/${index}`)));
  return wrong;
}

function resolve(ref) {
  return ref.slice(2).split('/').reduce((at, name) => at[name], DOCUMENT);
}

/** @param {any} event @returns {string[]} What is wrong with it, by the schema of its kind, members that it does not have included. */
export function eventBreaches(event) {
  const schemas = DOCUMENT.components.schemas.Event.oneOf.map(({ $ref }) => resolve($ref));
  const parts = (schema) => schema.$ref ? parts(resolve(schema.$ref)) : schema.allOf ? schema.allOf.flatMap(parts) : [schema];
  const schema = schemas.find((one) => parts(one).some((part) => part.properties?.type?.const === event.type));
  if (!schema) return [`no event is called ${event.type}`];
  const known = new Set(parts(schema).flatMap((part) => Object.keys(part.properties)));
  return [...breaches(schema, event), ...Object.keys(event).filter((name) => !known.has(name)).map((name) => `${event.type}: what is ${name}?`)];
}

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
  const wrong = schema.$ref ? breaches(resolve(schema.$ref), value, at) : [];
  const types = schema.type === undefined ? [] : [schema.type].flat();
  if (types.length > 0 && !types.some((type) => TYPES[type](value))) return [`${at}: ${JSON.stringify(value)} is no ${types}`];
  if ('const' in schema && value !== schema.const) wrong.push(`${at}: ${JSON.stringify(value)} is not ${schema.const}`);
  if (schema.enum && !schema.enum.includes(value)) wrong.push(`${at}: ${JSON.stringify(value)} is none of ${schema.enum}`);
  if (schema.pattern && typeof value === 'string' && !new RegExp(schema.pattern).test(value)) wrong.push(`${at}: ${value} is not like ${schema.pattern}`);
  if (schema.minimum !== undefined && typeof value === 'number' && value < schema.minimum) wrong.push(`${at}: ${value} is too small`);
  if (schema.maximum !== undefined && typeof value === 'number' && value > schema.maximum) wrong.push(`${at}: ${value} is too large`);
  if (schema.minLength !== undefined && typeof value === 'string' && [...value].length < schema.minLength) wrong.push(`${at}: too short`);
  if (schema.maxLength !== undefined && typeof value === 'string' && [...value].length > schema.maxLength) wrong.push(`${at}: too long`);
  if (schema.not && breaches(schema.not, value, at).length === 0) wrong.push(`${at}: it fits what it must not`);
  for (const part of schema.allOf ?? []) wrong.push(...breaches(part, value, at));
  if (schema.oneOf) {
    const fits = schema.oneOf.filter((part) => breaches(part, value, at).length === 0).length;
    if (fits !== 1) wrong.push(`${at}: ${JSON.stringify(value)?.slice(0, 200)} fits ${fits} of ${schema.oneOf.length}`);
  }
  if (TYPES.object(value)) {
    for (const name of schema.required ?? []) if (!(name in value)) wrong.push(`${at}: without ${name}`);
    const others = Object.keys(value).filter((name) => !(name in (schema.properties ?? {})));
    if (schema.additionalProperties === false) wrong.push(...others.map((name) => `${at}: what is ${name}?`));
    if (TYPES.object(schema.additionalProperties)) for (const name of others) wrong.push(...breaches(schema.additionalProperties, value[name], `${at}/${name}`));
    if (schema.propertyNames) for (const name of Object.keys(value)) wrong.push(...breaches(schema.propertyNames, name, `${at}: the name`));
    for (const [name, part] of Object.entries(schema.properties ?? {})) if (name in value) wrong.push(...breaches(part, value[name], `${at}/${name}`));
  }
  if (Array.isArray(value) && schema.items) value.forEach((item, index) => wrong.push(...breaches(schema.items, item, `${at}/${index}`)));
  return wrong;
}

function resolve(ref) {
  return ref.slice(2).split('/').reduce((at, name) => at[name], DOCUMENT);
}

/** @param {any} event @returns {string[]} What is wrong with it, by the schema of its kind. */
export function eventBreaches(event) {
  const schemas = DOCUMENT.components.schemas.Event.oneOf.map(({ $ref }) => resolve($ref));
  const schema = schemas.find(({ properties }) => properties.type.const === event.type);
  return schema ? breaches(schema, event) : [`no event is called ${event.type}`];
}

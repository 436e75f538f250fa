//   node openapi.mjs lint     reads OpenAPI documents, a list of strings in JSON, and prints for each a list of what linters find
//   node openapi.mjs types    reads an OpenAPI document and prints the TypeScript types of a client

import { createConfig, lintFromString } from '@redocly/openapi-core';
import spectral from '@stoplight/spectral-core';
import rulesets from '@stoplight/spectral-rulesets';
import openapiTS, { astToString } from 'openapi-typescript';
import { text } from 'node:stream/consumers';

const input = await text(process.stdin);

async function byRedocly(source) {
  const config = await createConfig({ extends: ['recommended-strict'] });
  const problems = await lintFromString({ source, absoluteRef: 'openapi.json', config });
  return problems.map((p) => ({ linter: 'redocly', rule: p.ruleId, at: p.location[0]?.pointer ?? '', message: p.message }));
}

async function bySpectral(source) {
  const linter = new spectral.Spectral();
  linter.setRuleset({ extends: [[rulesets.oas, 'recommended']] });
  const found = await linter.run(JSON.parse(source));
  return found.map((f) => ({ linter: 'spectral', rule: f.code, at: f.path.join('/'), message: f.message }));
}

const lint = async (source) => [...(await byRedocly(source)), ...(await bySpectral(source))];

switch (process.argv[2]) {
  case 'lint':
    console.log(JSON.stringify(await Promise.all(JSON.parse(input).map(lint))));
    break;
  case 'types':
    console.log(astToString(await openapiTS(input)));
    break;
}

// Fedify needs two globals that Node.js 20 does not have.
import { Temporal } from '@js-temporal/polyfill';

globalThis.Temporal ??= Temporal;
globalThis.navigator ??= { userAgent: 'Node.js' };

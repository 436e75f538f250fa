// Package simulation tests the promises over virtual weeks: the whole engine (three pools, breakers, leases, the
// embedded store) delivers to a model fediverse with all known failures, while nodes are killed and stalled and the store
// fails, in the virtual time of testing/synctest. A checker that knows only the public promises checks every step. All
// random choices follow from a seed.
//
// It has only tests. docs/simulation.md describes the model and the checks, and how to run more seeds and to replay one.
package simulation

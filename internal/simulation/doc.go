// Package simulation proves the promises over virtual weeks: the whole engine (three pools, breakers, leases, the
// embedded store) delivers to a model fediverse that fails in every way known, while nodes are killed and stalled and the
// store goes away, in the virtual time of testing/synctest. A checker that stands beside the engine and knows only the
// public promises judges every step. All of it is drawn from a seed.
//
// It consists of tests; docs/simulation.md tells what is modelled and checked, and how to run more seeds and to replay
// one.
package simulation

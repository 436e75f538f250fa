// Package e2e holds only tests: they run the whole program and check it from outside, by its API, its log, its exit code
// and the requests that arrive at inboxes on loopback.
//
// A node runs in the test's process, or in a separate one if it is killed, stopped by signals or measured; then the test's
// binary is the program. compose-check checks docker-compose.yml and its containers, and needs Docker.
package e2e

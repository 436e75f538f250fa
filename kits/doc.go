// Package kits holds only tests: they run the kits of other languages than Go (ruby, python, php) against a real node.
//
// Each kit has tests in its own language, which its language's test runner runs. They get what they need in variables:
//
//	POSTRIDER_URL      the real node, which delivers to the inboxes of the test
//	POSTRIDER_TOKEN    its token
//	KIT_STANDIN        a stand-in for a node, which gives the answers that a test asked it for (standin_test.go)
//	KIT_INBOXES        the URLs of inboxes, separated by spaces; they verify each signature
//	KIT_KEY_ID         the ID of the key that the inboxes know
//	KIT_KEY_FILE       a file with its private half, in PEM
//	KIT_EXACT          an activity that has to arrive byte for byte at all inboxes
//
// After that the test in Go checks what has arrived. The examples of each kit's README run as they stand there, in
// programs of their own. A language that is not installed skips its tests, or fails them if REQUIRE_RUBY, REQUIRE_PYTHON
// or REQUIRE_PHP is 1.
package kits

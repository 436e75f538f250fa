package handlers_test

import (
	"testing"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/handlers"
)

// The harness imports this package, so only this side of its tests can call it.
func init() {
	handlers.InstallAxe = func(t *testing.T) string {
		harness.RequireNode(t)
		harness.InstallPackages(t, "testdata")
		return "testdata/node_modules/axe-core/axe.min.js"
	}
}

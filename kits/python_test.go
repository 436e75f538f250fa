package kits

import "testing"

func TestPython(t *testing.T) {
	t.Parallel()
	python := language(t, "python3", "REQUIRE_PYTHON")
	r := newRig(t, "python")
	t.Log(r.run(t, "python/tests", python, "-B", "-W", "error", "-m", "unittest"))
	r.arrivedExactly(t, "python")
	for _, way := range []string{"async", "celery"} {
		r.arrived(t, "https://app.example/a/python/"+way)
	}
}

func TestPythonExamples(t *testing.T) {
	t.Parallel()
	python := language(t, "python3", "REQUIRE_PYTHON")
	r := newRig(t, "python")
	files := examples(t, "python/README.md", "python")
	files["webhook.py"] += `
import os
headers = {"webhook-id": os.environ["ID"], "webhook-timestamp": os.environ["TIMESTAMP"], "webhook-signature": os.environ["SIGNATURE"]}
print([handle(os.environ["BODY"].encode() + more, headers) for more in (b"", b" ")])
`
	r.runExamples(t, files, []string{python, "-B"}, "python", ".py")
}

package kits

import (
	"testing"

	"github.com/postrider/postrider/internal/testinbox"
)

func TestRuby(t *testing.T) {
	t.Parallel()
	ruby := language(t, "ruby", "REQUIRE_RUBY")
	r := newRig(t, "ruby")
	t.Log(r.run(t, "ruby", ruby, "-w", "-Ilib", "-e", `Dir["./test/*_test.rb"].each { require _1 }`))
	r.arrivedExactly(t, "ruby")
	for _, way := range []string{"push_bulk", "perform_bulk", "perform_async", "perform_in", "low"} {
		r.arrived(t, "https://app.example/a/ruby/"+way)
	}
	for _, request := range r.arrived(t, "https://app.example/a/ruby/perform_in") {
		checkSynchronization(t, request)
	}
}

// checkSynchronization checks that a request has the header of FEP-8fcf, which its valid signature covers.
func checkSynchronization(t *testing.T, request testinbox.Request) {
	t.Helper()
	want := `collectionId="https://app.example/users/alice/followers", digest="hash-of-` + hostname(request.Host) +
		`", url="https://app.example/users/alice/sync"`
	if got := request.Header.Get("Collection-Synchronization"); got != want {
		t.Errorf("Collection-Synchronization: %s, want %s", got, want)
	}
}

func TestRubyExamples(t *testing.T) {
	t.Parallel()
	ruby := language(t, "ruby", "REQUIRE_RUBY")
	r := newRig(t, "ruby")
	r.environ = append(r.environ, "RUBYLIB="+absolute(t, "ruby/lib"))
	files := examples(t, "ruby/README.md", "ruby")
	files["webhook.rb"] += `
require 'stringio'
env = { 'HTTP_WEBHOOK_ID' => ENV['ID'], 'HTTP_WEBHOOK_TIMESTAMP' => ENV['TIMESTAMP'], 'HTTP_WEBHOOK_SIGNATURE' => ENV['SIGNATURE'] }
puts [ENV['BODY'], ENV['BODY'] + ' '].map { |body| APP.call(env.merge('rack.input' => StringIO.new(body))).first }.inspect
`
	r.runExamples(t, files, []string{ruby}, "ruby", ".rb")
}

package kits

import "testing"

func TestPHP(t *testing.T) {
	t.Parallel()
	php := language(t, "php", "REQUIRE_PHP")
	r := newRig(t, "php")
	t.Log(r.run(t, "php", php, "tests/run.php"))
	r.arrivedExactly(t, "php")
	for _, app := range []string{"pixelfed", "wordpress"} {
		id := "https://app.example/a/php/" + app
		if requests := r.arrived(t, id); len(requests) != len(r.inboxes) {
			t.Errorf("%s arrived %d times at %d inboxes", id, len(requests), len(r.inboxes))
		}
	}
}

func TestPHPExamples(t *testing.T) {
	t.Parallel()
	php := language(t, "php", "REQUIRE_PHP")
	r := newRig(t, "php")
	files := examples(t, "php/README.md", "php")
	files["webhook.php"] += `
$headers = ['webhook-id' => getenv('ID'), 'webhook-timestamp' => getenv('TIMESTAMP'), 'webhook-signature' => getenv('SIGNATURE')];
echo json_encode([handle(getenv('BODY'), $headers), handle(getenv('BODY') . ' ', $headers)]);
`
	// Composer would load the classes.
	r.runExamples(t, files, []string{php, "-d", "auto_prepend_file=" + absolute(t, "php/autoload.php")}, "php", ".php")
}

package handlers

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// asText turns the activity of a call into a string that holds its text, by another encoder than the one under test.
func asText(t *testing.T, body string) string {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &members); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(string(members["activity"]))
	if err != nil {
		t.Fatal(err)
	}
	members["activity"] = text
	call, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(call)
}

// TestActivityAsText: the bytes sent are those of the string's text, white space included, and all else is read as
// usual.
func TestActivityAsText(t *testing.T) {
	for _, text := range []string{
		`{"type":"Create","id":"https://app.example/a/1","object":"https://app.example/n/1"}`,
		" {\"n\":1.0E+2,\n\t\"id\":\"https:\\/\\/app.example/a/\\u0031\", \"type\":\"Create\",\"e\":\"é\\u00e9<&\u2028😀\\ud83d\\ude00\",\"object\":{\"id\":\"https://app.example/n/1\"}}\n",
	} {
		quoted := strconv.QuoteToASCII(text)
		quoted = strings.ReplaceAll(quoted, `\U0001f600`, `\ud83d\ude00`) // as JSON has it
		got, sub := newRig(t).post(t, call(`"activity":`+quoted, aKey, anInbox))
		if string(sub.Body) != text {
			t.Errorf("got %q, want %q", sub.Body, text)
		}
		if got.ActivityID != "https://app.example/a/1" || sub.Type != "Create" || sub.OrderingKey != "https://app.example/n/1" {
			t.Errorf("got %+v, %+v", got, sub.Activity)
		}
	}
}

// TestTextsAreCheckedAsObjectsAre: what is refused in an object is refused in its text, with the same codes and
// locations.
func TestTextsAreCheckedAsObjectsAre(t *testing.T) {
	g, tried := newRig(t), 0
	for _, tt := range hostile {
		if !json.Valid([]byte(tt.body)) || !utf8.ValidString(tt.body) || !strings.Contains(tt.body, `"activity":{`) {
			continue
		}
		tried++
		want, got := g.do("POST", "/v1/activities", tt.body), g.do("POST", "/v1/activities", asText(t, tt.body))
		if strings.HasPrefix(tt.name, "member twice") {
			continue // which the encoder makes good
		}
		if diff := cmp.Diff(faultsOf(wantProblem(t, want, tt.status)), faultsOf(wantProblem(t, got, tt.status))); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	if tried < 80 || len(g.queue.submissions) != 1 {
		t.Errorf("%d calls tried, %d reached the store", tried, len(g.queue.submissions))
	}
}

func faultsOf(p problem) (list []string) {
	for _, f := range p.Errors {
		list = append(list, f.Location+" "+string(f.Code))
	}
	return list
}

func TestSizesOfTexts(t *testing.T) {
	const frame = `{"id":"a","type":"Note","x":""}`
	text := func(n int, letter string) string {
		return call(`"activity":"{\"id\":\"a\",\"type\":\"Note\",\"x\":\"`+strings.Repeat(letter, n-len(frame))+`\"}"`, aKey, anInbox)
	}
	for _, letter := range []string{"x", `\u0078`} {
		if _, sub := newRig(t).post(t, text(maxActivity, letter)); len(sub.Body) != maxActivity || cap(sub.Body) > 2*maxActivity {
			t.Errorf("%d bytes in room for %d", len(sub.Body), cap(sub.Body))
		}
		wantProblem(t, newRig(t).do("POST", "/v1/activities", text(maxActivity+1, letter)), 413)
	}
	wantProblem(t, newRig(t).do("POST", "/v1/activities", text(8*maxActivity, "x")), 413)
}

// TestUnicodeFaults: an escape for half of a character is distinguished from bytes that are no UTF-8.
func TestUnicodeFaults(t *testing.T) {
	for body, want := range map[string]code{
		activityWith(goodID + `,"name":"\ud800"`):                     codeLoneSurrogate,
		activityWith(goodID + `,"name":"x\uDFFFy"`):                   codeLoneSurrogate,
		activityWith(goodID + `,"name":"\ud800\u0041"`):               codeLoneSurrogate,
		activityWith(goodID + `,"\ud83d":1`):                          codeLoneSurrogate,
		with(`"ordering_key":"\ude00"`):                               codeLoneSurrogate,
		call(`"activity":"\ud800{}"`, aKey, anInbox):                  codeLoneSurrogate,
		call(`"activity":"{\"name\":\"\\ud800\"}"`, aKey, anInbox):    codeLoneSurrogate,
		activityWith(goodID + ",\"name\":\"\xff\""):                   codeInvalidUTF8,
		activityWith(goodID + ",\"name\":\"\xed\xa0\x80\""):           codeInvalidUTF8, // a surrogate written as if in UTF-8
		activityWith(goodID + ",\"name\":\"\\u0041\xff\\ud800\""):     codeInvalidUTF8, // the first fault counts
		activityWith(goodID + ",\"name\":\"\\ud800\xff\""):            codeLoneSurrogate,
		activityWith(goodID + ",\"name\":\"\\u00e9\\\\ud800 \xc0x\""): codeInvalidUTF8,
	} {
		if p := wantProblem(t, newRig(t).do("POST", "/v1/activities", body), 422); p.Errors[0].Code != want {
			t.Errorf("%q: %+v, want %s", body, p.Errors, want)
		}
	}
}

// TestOrderingKeysMayHoldAnything that is a string and not too long.
func TestOrderingKeysMayHoldAnything(t *testing.T) {
	for _, key := range []string{"a\nb", "\x00", "\t \r\n\x7f", "\u2028\u202e", "é😀", strings.Repeat("\n", maxText)} {
		text, err := json.Marshal(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, sub := newRig(t).post(t, with(`"ordering_key":`+string(text))); sub.OrderingKey != key {
			t.Errorf("got %q, want %q", sub.OrderingKey, key)
		}
	}
}

func TestFinalStatuses(t *testing.T) {
	all := "400"
	for status := 401; status < 500; status++ {
		all += "," + strconv.Itoa(status)
	}
	for list, want := range map[string][]int{
		`[401]`: {401}, `[499,400,401,400]`: {400, 401, 499}, `[]`: nil, `null`: nil, `[401` + strings.Repeat(",401", 99) + `]`: {401},
	} {
		if _, sub := newRig(t).post(t, with(`"final_statuses":`+list)); !cmp.Equal(sub.Final, want) {
			t.Errorf("%s: got %v, want %v", list, sub.Final, want)
		}
	}
	if _, sub := newRig(t).post(t, with(`"final_statuses":[`+all+`]`)); len(sub.Final) != 100 {
		t.Errorf("got %v", sub.Final)
	}
}

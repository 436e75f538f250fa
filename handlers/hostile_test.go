package handlers

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// activityWith is a call with these members in its activity, besides type.
func activityWith(members string) string {
	return call(`"activity":{"type":"Create",`+members+`}`, aKey, anInbox)
}

func recipientWith(members string) string {
	return call(anActivity, aKey, `"recipients":[{"inbox":"https://one.example/inbox",`+members+`}]`)
}

func headersWith(members string) string { return recipientWith(`"headers":{` + members + `}`) }

func with(member string) string { return call(anActivity, aKey, anInbox, member) }

func manyHeaders(n, length int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"X-%d":%q`, i, strings.Repeat("v", length))
	}
	return headersWith(strings.Join(list, ","))
}

const goodID = `"id":"https://app.example/a/1"`

// hostileCall is a call that must be refused, with the status and the location of the fault.
type hostileCall struct {
	name, body string
	status     int
	location   string
}

// hostile are calls of all kinds.
var hostile = []hostileCall{
	{"empty object", `{}`, 422, "body.activity"},
	{"blank", ` `, 400, "body"},
	{"not JSON", `hello`, 400, "body"},
	{"list", `[]`, 400, "body"},
	{"null", `null`, 400, "body"},
	{"string", `"x"`, 400, "body"},
	{"cut off", `{"activity":{"id":"x"`, 400, "body"},
	{"cut off in a string", `{"key_id":"x`, 400, "body"},
	{"trailing object", call(anActivity, aKey, anInbox) + `{}`, 400, "body"},
	{"trailing letter", call(anActivity, aKey, anInbox) + `x`, 400, "body"},
	{"trailing comma", `{"key_id":"x",}`, 400, "body"},
	{"single quotes", `{'key_id':'x'}`, 400, "body"},
	{"comment", `{/* */"key_id":"x"}`, 400, "body"},
	{"byte order mark", "\xef\xbb\xbf" + call(anActivity, aKey, anInbox), 400, "body"},
	{"raw control character", "{\"key_id\":\"a\x01b\"}", 400, "body"},
	{"NUL", "\x00", 400, "body"},
	{"lists without end", strings.Repeat("[", 200_000), 400, "body"},
	{"lists in the activity without end", `{"activity":{"x":` + strings.Repeat("[", 200_000), 400, "body"},
	{"deep and well formed", activityWith(goodID + `,"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)), 400, "body"},
	{"deep objects", activityWith(goodID + `,"x":` + strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000)), 400, "body"},
	{"invalid UTF-8 in the activity", activityWith(goodID + ",\"name\":\"\xff\""), 422, "body.activity.name"},
	{"invalid UTF-8 in a key", call(anActivity, "\"key_id\":\"\xc3\x28\"", anInbox), 422, "body.key_id"},
	{"invalid UTF-8 in a name", "{\"a\xff\":1}", 422, "body"},
	{"overlong UTF-8", activityWith(goodID + ",\"name\":\"\xc0\xaf\""), 422, "body.activity.name"},
	{"half a surrogate pair", activityWith(goodID + `,"name":"\ud800"`), 422, "body.activity.name"},
	{"half a surrogate pair in a key", with(`"ordering_key":"\udc00"`), 422, "body.ordering_key"},

	{"unknown member", with(`"prioritty":"high"`), 422, "body.prioritty"},
	{"unknown member in capitals", with(`"Priority":"high"`), 422, "body.Priority"},
	{"member twice", with(aKey), 422, "body.key_id"},
	{"activity missing", call(aKey, anInbox), 422, "body.activity"},
	{"activity null", call(`"activity":null`, aKey, anInbox), 422, "body.activity"},
	{"activity an empty string", call(`"activity":""`, aKey, anInbox), 400, "body.activity"},
	{"activity a string that is no JSON", call(`"activity":"hello"`, aKey, anInbox), 400, "body.activity"},
	{"activity a string in a string", call(`"activity":"\"{}\""`, aKey, anInbox), 422, "body.activity"},
	{"activity a string with two objects", call(`"activity":"{\"id\":\"a\",\"type\":\"Like\"}{}"`, aKey, anInbox), 400, "body.activity"},
	{"activity a list", call(`"activity":[]`, aKey, anInbox), 422, "body.activity"},
	{"activity without id", activityWith(`"x":1`), 422, "body.activity.id"},
	{"activity id a number", activityWith(`"id":1`), 422, "body.activity.id"},
	{"activity id null", activityWith(`"id":null`), 422, "body.activity.id"},
	{"activity id an object", activityWith(`"id":{"id":"x"}`), 422, "body.activity.id"},
	{"activity id empty", activityWith(`"id":""`), 422, "body.activity.id"},
	{"activity id long", activityWith(`"id":"` + strings.Repeat("x", 2049) + `"`), 422, "body.activity.id"},
	{"activity id with a newline", activityWith(`"id":"a\nb"`), 422, "body.activity.id"},
	{"activity id with NUL", activityWith(`"id":"a\u0000b"`), 422, "body.activity.id"},
	{"activity id twice", activityWith(goodID + `,` + goodID), 422, "body.activity.id"},
	{"activity id twice, once escaped", activityWith(goodID + `,"\u0069d":"y"`), 422, "body.activity.id"},
	{"activity object twice", activityWith(goodID + `,"object":"a","object":"b"`), 422, "body.activity.object"},
	{"activity without type", call(`"activity":{`+goodID+`}`, aKey, anInbox), 422, "body.activity.type"},
	{"activity type a number", call(`"activity":{"type":1,`+goodID+`}`, aKey, anInbox), 422, "body.activity.type"},
	{"activity type an empty list", call(`"activity":{"type":[],`+goodID+`}`, aKey, anInbox), 422, "body.activity.type"},
	{"activity type a list of numbers", call(`"activity":{"type":[1],`+goodID+`}`, aKey, anInbox), 422, "body.activity.type[0]"},

	{"key missing", call(anActivity, anInbox), 422, "body.key_id"},
	{"key null", call(anActivity, `"key_id":null`, anInbox), 422, "body.key_id"},
	{"key empty", call(anActivity, `"key_id":""`, anInbox), 422, "body.key_id"},
	{"key a number", call(anActivity, `"key_id":1`, anInbox), 422, "body.key_id"},
	{"key long", call(anActivity, `"key_id":"`+strings.Repeat("x", 2049)+`"`, anInbox), 422, "body.key_id"},
	{"key unknown", call(anActivity, `"key_id":"https://unknown.example/#k"`, anInbox), 422, "body.key_id"},

	{"no inboxes", call(anActivity, aKey), 422, "body.inboxes"},
	{"no inboxes in lists", call(anActivity, aKey, `"inboxes":[],"recipients":[]`), 422, "body.inboxes"},
	{"no inboxes in nulls", call(anActivity, aKey, `"inboxes":null,"recipients":null`), 422, "body.inboxes"},
	{"inboxes a string", call(anActivity, aKey, `"inboxes":"https://one.example/inbox"`), 422, "body.inboxes"},
	{"inbox a number", call(anActivity, aKey, `"inboxes":["https://one.example/inbox",2]`), 422, "body.inboxes[1]"},
	{"inbox null", call(anActivity, aKey, `"inboxes":[null]`), 422, "body.inboxes[0]"},
	{"recipients an object", call(anActivity, aKey, `"recipients":{}`), 422, "body.recipients"},
	{"recipient a string", call(anActivity, aKey, `"recipients":["https://one.example/inbox"]`), 422, "body.recipients[0]"},
	{"recipient without inbox", call(anActivity, aKey, `"recipients":[{"id":"x"}]`), 422, "body.recipients[0].inbox"},
	{"recipient with unknown member", recipientWith(`"sharedInbox":"x"`), 422, "body.recipients[0].sharedInbox"},
	{"recipient id a number", recipientWith(`"id":7`), 422, "body.recipients[0].id"},
	{"recipient ids a string", recipientWith(`"ids":"x"`), 422, "body.recipients[0].ids"},
	{"recipient ids numbers", recipientWith(`"ids":["x",7]`), 422, "body.recipients[0].ids[1]"},
	{"too many ids", recipientWith(`"ids":[""` + strings.Repeat(`,""`, 100_000) + `]`), 422, "body.recipients[0].ids[100000]"},
	{"only the actor itself by its ids", recipientWith(`"ids":["https://app.example/users/alice"]`), 422, "body.recipients"},
	{"too many inboxes", call(anActivity, aKey, `"inboxes":[""`+strings.Repeat(`,""`, 100_000)+`]`), 422, "body.inboxes[100000]"},
	{"too many together", call(anActivity, aKey, `"inboxes":[""`+strings.Repeat(`,""`, 99_999)+`],"recipients":[{"inbox":"x"}]`), 422, "body.recipients[0]"},
	{"only the actor itself", recipientWith(`"id":"https://app.example/users/alice"`), 422, "body.recipients"},

	{"priority unknown", with(`"priority":"urgent"`), 422, "body.priority"},
	{"priority in capitals", with(`"priority":"High"`), 422, "body.priority"},
	{"priority a number", with(`"priority":1`), 422, "body.priority"},
	{"ordering key empty", with(`"ordering_key":""`), 422, "body.ordering_key"},
	{"ordering key long", with(`"ordering_key":"` + strings.Repeat("x", 2049) + `"`), 422, "body.ordering_key"},
	{"ordering key of invalid UTF-8", with("\"ordering_key\":\"\xff\""), 422, "body.ordering_key"},
	{"ordering key a list", with(`"ordering_key":["x"]`), 422, "body.ordering_key"},
	{"final_statuses a number", with(`"final_statuses":401`), 422, "body.final_statuses"},
	{"final status a string", with(`"final_statuses":["401"]`), 422, "body.final_statuses[0]"},
	{"final status 399", with(`"final_statuses":[401,399]`), 422, "body.final_statuses[1]"},
	{"final status 500", with(`"final_statuses":[500]`), 422, "body.final_statuses[0]"},
	{"final status 0", with(`"final_statuses":[0]`), 422, "body.final_statuses[0]"},
	{"final status not whole", with(`"final_statuses":[401.5]`), 422, "body.final_statuses[0]"},
	{"final status huge", with(`"final_statuses":[4010000000000000000000]`), 422, "body.final_statuses[0]"},
	{"too many final statuses", with(`"final_statuses":[401` + strings.Repeat(",401", 100) + `]`), 422, "body.final_statuses[100]"},
	{"expires_in a number", with(`"expires_in":72`), 422, "body.expires_in"},
	{"expires_in without unit", with(`"expires_in":"72"`), 422, "body.expires_in"},
	{"expires_in in days", with(`"expires_in":"3d"`), 422, "body.expires_in"},
	{"expires_in zero", with(`"expires_in":"0s"`), 422, "body.expires_in"},
	{"expires_in negative", with(`"expires_in":"-1h"`), 422, "body.expires_in"},
	{"expires_in too long", with(`"expires_in":"721h"`), 422, "body.expires_in"},
	{"expires_in overflowing", with(`"expires_in":"99999999999999h"`), 422, "body.expires_in"},

	{"headers a list", recipientWith(`"headers":[]`), 422, "body.recipients[0].headers"},
	{"header a number", headersWith(`"X-A":1`), 422, "body.recipients[0].headers.X-A"},
	{"header empty name", headersWith(`"":"v"`), 422, "body.recipients[0].headers."},
	{"header with a space", headersWith(`"X A":"v"`), 422, "body.recipients[0].headers.X A"},
	{"header with a colon", headersWith(`"X:A":"v"`), 422, "body.recipients[0].headers.X:A"},
	{"header pseudo", headersWith(`"(request-target)":"v"`), 422, "body.recipients[0].headers.(request-target)"},
	{"header value with newline", headersWith(`"X-A":"a\r\nHost: b"`), 422, "body.recipients[0].headers.X-A"},
	{"header value with tab", headersWith(`"X-A":"a\tb"`), 422, "body.recipients[0].headers.X-A"},
	{"header value with NUL", headersWith(`"X-A":"\u0000"`), 422, "body.recipients[0].headers.X-A"},
	{"header value with DEL", headersWith(`"X-A":"\u007f"`), 422, "body.recipients[0].headers.X-A"},
	{"header value not ASCII", headersWith(`"X-A":"é"`), 422, "body.recipients[0].headers.X-A"},
	{"header twice", headersWith(`"X-A":"1","x-a":"2"`), 422, "body.recipients[0].headers.x-a"},
	{"17 headers", manyHeaders(17, 1), 422, "body.recipients[0].headers.X-16"},
	{"too large headers", manyHeaders(2, 5000), 422, "body.recipients[0].headers.X-1"},
	{"headers that differ", call(anActivity, aKey, `"recipients":[`+
		`{"shared_inbox":"https://one.example/inbox","headers":{"X-A":"1"}},`+
		`{"shared_inbox":"https://one.example/inbox","headers":{"x-a":"2"}}]`), 422, "body.recipients[1].headers.X-A"},

	{"inbox without scheme", call(anActivity, aKey, `"inboxes":["one.example/inbox"]`), 422, "body.inboxes[0]"},
	{"inbox by http", call(anActivity, aKey, `"inboxes":["http://one.example/inbox"]`), 422, "body.inboxes[0]"},
	{"inbox on loopback", call(anActivity, aKey, `"inboxes":["https://127.0.0.1/inbox"]`), 422, "body.inboxes[0]"},
	{"inbox empty", call(anActivity, aKey, `"inboxes":[""]`), 422, "body.inboxes[0]"},
	{"shared inbox by file", recipientWith(`"shared_inbox":"file:///etc/passwd"`), 422, "body.recipients[0].shared_inbox"},
}

func TestHostileCalls(t *testing.T) {
	g := newRig(t)
	for _, tt := range slices.Concat(hostile, hiding) {
		t.Run(tt.name, func(t *testing.T) {
			p := wantProblem(t, g.do("POST", "/v1/activities", tt.body), tt.status)
			if len(p.Errors) == 0 || p.Errors[0].Location != tt.location || p.Errors[0].Message == "" {
				t.Errorf("got errors %+v, want one at %s", p.Errors, tt.location)
			}
		})
	}
	if len(g.queue.submissions) > 0 {
		t.Errorf("%d calls reached the store", len(g.queue.submissions))
	}
}

func TestReservedHeaders(t *testing.T) {
	g := newRig(t)
	names := append(slices.Collect(maps.Keys(reserved)),
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Sec-Fetch-Site", "Access-Control-Request-Method", "Proxy-Anything",
		"Forwarded", "Via", "Origin", "X-HTTP-Method-Override")
	for _, name := range names {
		for _, spelt := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			p := wantProblem(t, g.do("POST", "/v1/activities", headersWith(fmt.Sprintf("%q:%q", spelt, "v"))), 422)
			if want := "body.recipients[0].headers." + spelt; p.Errors[0].Location != want {
				t.Errorf("got %+v, want a fault at %s", p.Errors, want)
			}
		}
	}
}

// TestFaultsAreBounded: a hostile call must not make an answer as large as itself.
func TestFaultsAreBounded(t *testing.T) {
	long := strings.Repeat("n", 100_000)
	for name, body := range map[string]string{
		"many faults":           call(anActivity, aKey, `"inboxes":[1`+strings.Repeat(",1", 50_000)+`]`),
		"long name":             with(`"` + long + `":1`),
		"long location":         activityWith(goodID + `,"x":` + strings.Repeat(`{"abcdefgh":`, 5000) + `{"bto":1}` + strings.Repeat("}", 5000)),
		"hidden name":           with(`"a\u0000":1`),
		"long inbox":            call(anActivity, aKey, `"inboxes":["`+long+`"]`),
		"many faults in a text": call(`"prioritty":1,"also":1,"more":1`, `"activity":"{\"x\":[{\"bto\":1}`+strings.Repeat(`,{\"bto\":1}`, 50)+`]}"`, aKey, anInbox),
		"many deep bto":         activityWith(goodID + `,"x":[{"bto":1}` + strings.Repeat(`,{"bto":1}`, 50_000) + `]`),
	} {
		rec := newRig(t).do("POST", "/v1/activities", body)
		if p := wantProblem(t, rec, 422); len(p.Errors) > maxFaults || rec.Body.Len() > 16<<10 {
			t.Errorf("%s: %d errors in %d bytes", name, len(p.Errors), rec.Body.Len())
		}
	}
}

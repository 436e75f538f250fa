package handlers

import (
	"strings"
	"testing"
)

// hiding are calls with a bto or bcc that names somebody.
var hiding = []hostileCall{
	{"bto", activityWith(goodID + `,"bto":"https://x.example/"`), 422, "body.activity.bto"},
	{"bcc in a list", activityWith(goodID + `,"bcc":["https://x.example/"]`), 422, "body.activity.bcc"},
	{"bcc behind nothing", activityWith(goodID + `,"bcc":[null,"",[],"x"]`), 422, "body.activity.bcc"},
	{"bcc before nothing", activityWith(goodID + `,"bcc":["x",""]`), 422, "body.activity.bcc"},
	{"bcc an object", activityWith(goodID + `,"bcc":{"id":""}`), 422, "body.activity.bcc"},
	{"bcc false", activityWith(goodID + `,"bcc":false`), 422, "body.activity.bcc"},
	{"bto in the object", activityWith(goodID + `,"object":{"id":"x","bto":["x"]}`), 422, "body.activity.object.bto"},
	{"bcc in a list in the object", activityWith(goodID + `,"object":[1,[{"bcc":1}]]`), 422, "body.activity.object[1][0].bcc"},
	{"bto deep", activityWith(goodID + `,"x":[{"y":{"z":[{"bto":1}]}}]`), 422, "body.activity.x[0].y.z[0].bto"},
	{"bto in the actor", activityWith(goodID + `,"actor":{"bto":1}`), 422, "body.activity.actor.bto"},
	{"bto in the object's author", activityWith(goodID + `,"object":{"attributedTo":[{"bto":1}]}`), 422, "body.activity.object.attributedTo[0].bto"},
	{"bto in the object's object", activityWith(goodID + `,"object":{"object":{"bto":1}}`), 422, "body.activity.object.object.bto"},
	{"bto in the first of two objects", activityWith(goodID + `,"object":{"object":{"bto":1},"object":{}}`), 422, "body.activity.object.object.bto"},
	{"bto escaped", activityWith(goodID + `,"\u0062to":1`), 422, "body.activity.bto"},
	{"as:bto", activityWith(goodID + `,"as:bto":1`), 422, "body.activity.as:bto"},
	{"full bcc", activityWith(goodID + `,"https://www.w3.org/ns/activitystreams#bcc":1`), 422, "body.activity.https://www.w3.org/ns/activitystreams#bcc"},
	{"bto below a language", activityWith(goodID + `,"contentMap":{"en":{"bto":1}}`), 422, "body.activity.contentMap.en.bto"},
	{"bto in a list of texts", activityWith(goodID + `,"contentMap":[{"bto":1}]`), 422, "body.activity.contentMap[0].bto"},
	{"bto in another map", activityWith(goodID + `,"map":{"bto":1}`), 422, "body.activity.map.bto"},

	{"bto of an Announce", announceOf(`{"type":"Note"},"bto":["x"]`), 422, "body.activity.bto"},
	{"bto beside an Announce's object", announceOf(`{"type":"Note"},"tag":{"bto":["x"]}`), 422, "body.activity.tag.bto"},
	{"bto of an own post", announceOf(`{"attributedTo":"https://app.example/groups/1","bto":"x"}`), 422, "body.activity.object.bto"},
	{"bto of an own activity", announceOf(`{"actor":[{"id":"https://app.example/groups/1"}],"object":{"bto":"x"}}`), 422, "body.activity.object.object.bto"},
	{"bto of one of them own", announceOf(`[{"attributedTo":"https://x.example/","bto":"x"},{"attributedTo":["https://x.example/","https://app.example/groups/1"]}]`), 422, "body.activity.object[0].bto"},
	{"bto in an undone Announce without actor", activityWith(goodID + `,"object":{"object":{"bto":1},"type":"Announce"}`), 422, "body.activity.object.object.bto"},
	{"many of others, one own", announceOf(`[` + strings.Repeat(`{"bto":1},`, 100) + `1],"bto":1`), 422, "body.activity.bto"},
}

// announceOf is a call with an Announce of this object. Its type and actor stand behind the object.
func announceOf(object string) string {
	return call(`"activity":{"object":`+object+`,`+goodID+`,"actor":"https://app.example/groups/1","type":"Announce"}`, aKey, anInbox)
}

// TestNothingHidden checks that members called bto and bcc pass if they name no recipient, or are not the caller's.
func TestNothingHidden(t *testing.T) {
	others := `{"type":"Create","actor":"https://x.example/","bto":["https://y.example/"],"object":{"type":"Note","bcc":"https://z.example/"}}`
	g := newRig(t)
	for name, body := range map[string]string{
		"empty":                   activityWith(goodID + `,"bto":[],"bcc":"","object":{"id":"x","bto":null,"bcc":{}}`),
		"empty deep down":         activityWith(goodID + `,"bto":[[],"",[null,{}]]`),
		"in a context":            activityWith(goodID + `,"@context":[{"bto":{"@id":"as:bto"}}],"object":{"@context":{"bcc":"as:bcc"}}`),
		"in a value":              activityWith(goodID + `,"name":"bto","summary":"{\"bto\":1}"`),
		"languages":               activityWith(goodID + `,"contentMap":{"bto":"x"},"object":{"summaryMap":{"bcc":"x"},"nameMap":{"bto":["x"]}}`),
		"languages, spelt out":    activityWith(goodID + `,"as:contentMap":{"bto":"x"},"http://www.w3.org/ns/activitystreams#nameMap":{"bcc":"x"}`),
		"of others":               announceOf(others),
		"of others, many":         announceOf("[" + strings.Repeat(others+",", 50) + others + "]"),
		"of others, without name": announceOf(`{"type":"Note","bto":"x"}`),
		"of others, undone": activityWith(goodID + `,"object":{"object":` + others +
			`,"actor":"https://app.example/groups/1","type":"Announce"}`),
	} {
		if rec := g.do("POST", "/v1/activities", body); rec.Code != 202 {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
}

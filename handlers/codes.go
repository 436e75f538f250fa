package handlers

import (
	"github.com/danielgtaylor/huma/v2"

	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/queue"
)

// code is a stable word for a kind of fault, for programs. Messages are for people and may change.
type code string

// The codes. Those of rejected inboxes are the reasons of rejections.
const (
	codeMalformed           code = "malformed"            // it is not JSON, or a query that is not well formed
	codeInvalidUTF8         code = "invalid_utf8"         // it holds bytes that are not UTF-8
	codeLoneSurrogate       code = "lone_surrogate"       // it holds an escape for half of a character
	codeMissing             code = "missing"              // it has to be there
	codeEmpty               code = "empty"                // it has to hold something
	codeWrongType           code = "wrong_type"           // it is of another JSON type
	codeInvalidValue        code = "invalid_value"        // it is none of the values accepted
	codeTooLong             code = "too_long"             // it is longer than accepted
	codeTooMany             code = "too_many"             // there are more than accepted
	codeRepeated            code = "repeated"             // it stands twice
	codeControlCharacter    code = "control_character"    // it holds one
	codeUnknownMember       code = "unknown_member"       // no call has it
	codeUnknownParameter    code = "unknown_parameter"    // the route has no such query parameter
	codeConflict            code = "conflict"             // it contradicts another part of the call
	codeHiddenRecipients    code = "hidden_recipients"    // bto or bcc, which must not be delivered
	codeInvalidHeader       code = "invalid_header"       // it can't be a header
	codeReservedHeader      code = "reserved_header"      // the node sets this header itself
	codeUnknownKey          code = "unknown_key"          // the key was never put, or was removed
	codeInvalidKey          code = "invalid_key"          // it is not a private key that can be used
	codeIdempotencyMismatch code = "idempotency_mismatch" // the Idempotency-Key came with other bytes before
	codeOwnActor            code = "own_actor"            // there is no recipient but the activity's own actor
	codeForeignHost         code = "foreign_host"         // without api-tokens, Host must be localhost or a loopback address
	codeCrossOrigin         code = "cross_origin"         // a web page of another origin sent it
	codeMissingScope        code = "missing_scope"        // the token does not allow it
	codeCovered             code = "covered"              // an order for another host covers it, named in host
)

var codes = append([]code{
	codeMalformed, codeInvalidUTF8, codeLoneSurrogate, codeMissing, codeEmpty, codeWrongType, codeInvalidValue, codeTooLong,
	codeTooMany, codeRepeated, codeControlCharacter, codeUnknownMember, codeUnknownParameter, codeConflict,
	codeHiddenRecipients, codeInvalidHeader, codeReservedHeader, codeUnknownKey, codeInvalidKey, codeIdempotencyMismatch,
	codeOwnActor, codeForeignHost, codeCrossOrigin, codeMissingScope, codeCovered,
}, rejectionReasons...)

// rejectionReasons are the reasons why an inbox is not delivered to.
var rejectionReasons = []code{
	netguard.ReasonPrivateAddress, netguard.ReasonBadURL, netguard.ReasonHTTPNotAllowed,
	code(queue.ReasonHostBlocked), code(queue.ReasonHostUnavailable),
}

// Schema describes a code by the closed list of them.
func (code) Schema(huma.Registry) *huma.Schema { return enumSchema(codes) }

// enumSchema describes a string that is one of some values.
func enumSchema[S ~string](values []S) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, value := range values {
		s.Enum = append(s.Enum, string(value))
	}
	return s
}

// flaw is what is wrong with something. The zero flaw is none.
type flaw struct {
	code    code
	message string // for people
}

// at makes a fault of it, by its location in the request.
func (w flaw) at(location string) fault {
	return fault{Location: location, Code: w.code, Message: w.message}
}

// Flaws of many things.
var (
	isMissing     = flaw{codeMissing, "is missing"}
	standsTwice   = flaw{codeRepeated, "stands twice"}
	unknownMember = flaw{codeUnknownMember, "is unknown"}
)

package policy

import "strings"

// Metadata names headers: Request those of callers that the service gets, Response those
// of the service that callers get. Case does not count.
type Metadata struct{ Request, Response []string }

// Passes says in words what passes beside the messages; empty means that nothing does.
func (r *Rule) Passes() string {
	var words []string
	if names := r.Metadata.Request; len(names) > 0 {
		words = append(words, "to the service "+strings.ToLower(strings.Join(names, " ")))
	}
	if names := r.Metadata.Response; len(names) > 0 {
		words = append(words, "to the caller "+strings.ToLower(strings.Join(names, " ")))
	}
	if r.UnauthenticatedByService {
		words = append(words, "the service's UNAUTHENTICATED")
	}
	return strings.Join(words, "; ")
}

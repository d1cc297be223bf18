package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"regexp"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// hidden stands where a secret was, whatever its length.
const hidden = "***"

var (
	stars = regexp.MustCompile(`\*{2,}`)
	// secretKey are the headers and keys whose whole value is a secret.
	secretKey = regexp.MustCompile(`(?i)(?:^|[-_.])(?:authorization|cookie|` + secretName + `)$`)
)

// redact hides the secrets of a value under a key.
func redact(key, value string) string {
	if secretKey.MatchString(key) && value != "" {
		return hidden
	}
	if masked := mask(value); masked != value {
		return stars.ReplaceAllString(masked, hidden)
	}
	return value
}

// Masked is an error without the secrets that its text may hold.
func Masked(err error) error {
	if text := mask(err.Error()); text != err.Error() {
		return errors.New(stars.ReplaceAllString(text, hidden))
	}
	return err
}

// redacted is a copy without secrets.
func redacted(c *configv1.Config) *configv1.Config {
	out := proto.CloneOf(c)
	redactMessage(out.ProtoReflect())
	return out
}

func redactMessage(m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		redact := redactor(fd)
		switch {
		case fd.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, e protoreflect.Value) bool {
				switch fd.MapValue().Kind() {
				case protoreflect.MessageKind:
					redactMessage(e.Message())
				case protoreflect.StringKind:
					v.Map().Set(k, protoreflect.ValueOfString(redact(k.String(), e.String())))
				}
				return true
			})
		case fd.IsList():
			for i := range v.List().Len() {
				switch fd.Kind() {
				case protoreflect.MessageKind:
					redactMessage(v.List().Get(i).Message())
				case protoreflect.StringKind:
					v.List().Set(i, protoreflect.ValueOfString(redact("", v.List().Get(i).String())))
				}
			}
		case fd.Kind() == protoreflect.MessageKind:
			redactMessage(v.Message())
		case fd.Kind() == protoreflect.StringKind:
			m.Set(fd, protoreflect.ValueOfString(redact("", v.String())))
		}
		return true
	})
}

// redactor hides the secrets of a field's values under a key. What is marked
// debug_redact in the schema is a secret whatever it looks like: the values of rules.
func redactor(fd protoreflect.FieldDescriptor) func(key, value string) string {
	if o, ok := fd.Options().(*descriptorpb.FieldOptions); ok && o.GetDebugRedact() {
		return func(string, string) string { return hidden }
	}
	return redact
}

// Redacted is a complete configuration as JSON, under the names that the file has,
// with *** in place of secrets.
func Redacted(c *configv1.Config) json.RawMessage {
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(redacted(c))
	var out bytes.Buffer
	if err == nil {
		err = json.Compact(&out, b) // protojson puts in spaces at random.
	}
	if err != nil { // No configuration that was read from text fails.
		return json.RawMessage(`{}`)
	}
	return out.Bytes()
}

// Digest tells complete configurations apart, in 16 hexadecimal digits. Secrets are
// no part of it: it is shown to whoever may see metrics, who could guess them with
// it.
func Digest(c *configv1.Config) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(redacted(c))
	if err != nil { // No configuration that was read from text fails.
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

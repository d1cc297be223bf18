package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
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

func debugRedact(fd protoreflect.FieldDescriptor) bool {
	o, ok := fd.Options().(*descriptorpb.FieldOptions)
	return ok && o.GetDebugRedact()
}

// redactor hides the secrets of a field's values under a key. What is marked
// debug_redact in the schema is a secret whatever it looks like: the values of rules.
func redactor(fd protoreflect.FieldDescriptor) func(key, value string) string {
	if debugRedact(fd) {
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

// hideSecrets finds what of a mapping are secrets by the schema. It goes into keys that
// come twice, too, whatever else is wrong.
func (f *file) hideSecrets(n yamlNode, md protoreflect.MessageDescriptor) {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i].Value, n.Content[i+1]
		fd := md.Fields().ByName(protoreflect.Name(key))
		if fd == nil {
			fd = md.Fields().ByJSONName(key)
		}
		switch {
		case fd == nil:
		case debugRedact(fd):
			f.hide(value)
		case fd.IsMap() && fd.MapValue().Message() != nil && value.Kind == yaml.MappingNode:
			for j := 1; j < len(value.Content); j += 2 {
				f.hideSecrets(value.Content[j], fd.MapValue().Message())
			}
		case fd.IsList() && fd.Message() != nil && value.Kind == yaml.SequenceNode:
			for _, item := range value.Content {
				f.hideSecrets(item, fd.Message())
			}
		case fd.Message() != nil:
			f.hideSecrets(value, fd.Message())
		}
	}
}

// hide notes a value, with all below it, as a secret.
func (f *file) hide(n yamlNode) {
	if f.secretNodes == nil {
		f.secretNodes, f.secretLines = map[yamlNode]bool{}, map[int]bool{}
	}
	f.secretNodes[n] = true
	lines := 1 + strings.Count(n.Value, "\n")
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 { // It begins below its key.
		lines++
	}
	for line := range lines {
		f.secretLines[n.Line+line] = true
	}
	for _, below := range n.Content {
		f.hide(below)
	}
}

package main

// document is the part of OpenAPI 3.1 that the plugin and this command write.
// Schemas stay maps: JSON Schema is open-ended, and most are passed through.
type document struct {
	OpenAPI    string              `json:"openapi"`
	Info       info                `json:"info"`
	Servers    []server            `json:"servers,omitempty"`
	Tags       []tag               `json:"tags,omitempty"`
	Paths      map[string]pathItem `json:"paths"`
	Components components          `json:"components"`
}

type info struct {
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
	Version     string `json:"version"`
}

type server struct {
	URL         string `json:"url"`
	Description string `json:"description,omitempty"`
}

type tag struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

type components struct {
	Schemas         map[string]schema         `json:"schemas,omitempty"`
	Responses       map[string]*response      `json:"responses,omitempty"`
	Headers         map[string]*header        `json:"headers,omitempty"`
	SecuritySchemes map[string]securityScheme `json:"securitySchemes,omitempty"`
}

type securityScheme struct {
	Type         string `json:"type"`
	Name         string `json:"name,omitempty"`
	In           string `json:"in,omitempty"`
	Scheme       string `json:"scheme,omitempty"`
	BearerFormat string `json:"bearerFormat,omitempty"`
	Description  string `json:"description,omitempty"`
}

// pathItem maps a verb in lower case to its operation.
type pathItem map[string]*operation

type operation struct {
	Tags        []string             `json:"tags,omitempty"`
	Summary     string               `json:"summary,omitempty"`
	Description string               `json:"description,omitempty"`
	OperationID string               `json:"operationId"`
	Parameters  []*parameter         `json:"parameters,omitempty"`
	RequestBody *requestBody         `json:"requestBody,omitempty"`
	Responses   map[string]*response `json:"responses"`
	// Security lists alternatives. It is written even when empty: [] says that no
	// credential is needed.
	Security []map[string][]string `json:"security"`
	// RequiredScopes are needed all, of AnyScopes one; absent where none is needed.
	RequiredScopes []string `json:"x-required-scopes,omitempty"`
	AnyScopes      []string `json:"x-any-scopes,omitempty"`
	// Limit is absent where only the limit by address holds.
	Limit *limit `json:"x-sluice-limit,omitempty"`
}

// limit is how often the operation may be called: the class whose rates and
// quotas count it, and how many tokens it takes from each.
type limit struct {
	Class string `json:"class"`
	Cost  int    `json:"cost"`
}

type parameter struct {
	Name        string `json:"name"`
	In          string `json:"in"`
	Description string `json:"description,omitempty"`
	Required    bool   `json:"required,omitempty"`
	Schema      schema `json:"schema"`
}

type requestBody struct {
	Description string                `json:"description,omitempty"`
	Content     map[string]*mediaType `json:"content"`
	Required    bool                  `json:"required,omitempty"`
}

type mediaType struct {
	Schema  schema         `json:"schema,omitempty"`
	Example map[string]any `json:"example,omitempty"`
}

type response struct {
	Ref         string                `json:"$ref,omitempty"`
	Description string                `json:"description,omitempty"`
	Headers     map[string]*header    `json:"headers,omitempty"`
	Content     map[string]*mediaType `json:"content,omitempty"`
}

type header struct {
	Ref         string `json:"$ref,omitempty"`
	Description string `json:"description,omitempty"`
	Schema      schema `json:"schema,omitempty"`
}

// schema is one JSON Schema (draft 2020-12).
type schema map[string]any

// schemaRef points at a schema of the document's components.
func schemaRef(name string) schema {
	return schema{"$ref": schemaPrefix + name}
}

const (
	schemaPrefix   = "#/components/schemas/"
	responsePrefix = "#/components/responses/"
	headerPrefix   = "#/components/headers/"
)

package discovery

func (r *Registry) dns(t Target) Resolver {
	return static{{Addr: t.Name + ":" + t.Port, ServerName: t.Name}}
}

"""Networks: plans, links, the packet filter, with real namespaces."""

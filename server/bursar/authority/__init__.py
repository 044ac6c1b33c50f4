"""The use cases: plan with the domain, ask the engine once, answer with the domain."""

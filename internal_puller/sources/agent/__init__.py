"""The relay client: enrolment, signed calls, proxies."""

"""A mail backend that writes down what it is given."""

from life_evidence import say


def send(to, subject, html_content, **more):
    to = to if isinstance(to, str) else ",".join(to)
    say("mail", f"{to} :: {subject} :: {html_content} :: {sorted(more)}")

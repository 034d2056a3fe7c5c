"""What a model answered, as the API has it: a completion, a chat, an embedding."""

from typing import Any


def said(answer: dict[str, Any]) -> str:
    """What came back, in few words: text, reasoning, a number of tokens, or an embedding's length; "" for nothing."""
    for choice in answer.get("choices") or []:
        message = choice.get("message") or {}
        for text in (
            message.get("content"),
            message.get("reasoning_content"),
            message.get("reasoning"),
            choice.get("text"),
        ):
            if isinstance(text, str) and text.strip():
                return f"answered: {' '.join(text.split())[:60]}"
    tokens = (answer.get("usage") or {}).get("completion_tokens") or 0
    if tokens:
        return f"answered with {tokens} tokens"
    data = answer.get("data") or []
    if data and isinstance(data[0], dict) and data[0].get("embedding"):
        return f"an embedding of {len(data[0]['embedding'])} numbers"
    return ""

"""What an adapted model looked at: token maps, similarity curves, CKA, attention, strengths.

    from farshot import load
    from farshot.explain import draw_strengths, explain, learned_strengths, subject
    classifier = load("adapted/")
    explanations = explain(classifier, ["a.jpg", "b.jpg"])
    model = subject(classifier.adapted_, classifier.encoder_)
    draw_strengths({"atha": learned_strengths(model)}).savefig("strengths.png")

Each view has a function that returns numbers and one, `draw_...`, that draws them. None of them changes the
model.
"""

from farshot.explain.attention import attention_entropy, class_token_entropy, draw_class_token_entropy
from farshot.explain.cka import domain_cka, domain_similarity, draw_similarities, linear_cka, state_similarity
from farshot.explain.curves import draw_similarity_curves, similarity_curves
from farshot.explain.explanation import Explanation, MovedTokens, explain, explain_images, explain_table
from farshot.explain.figure import compose, panels
from farshot.explain.strengths import Strengths, draw_strengths, learned_strengths
from farshot.explain.subject import Domain, Subject, subject
from farshot.explain.truth import draw_token_agreement, outline_truth, token_agreement

__all__ = [
    "Domain",
    "Explanation",
    "MovedTokens",
    "Strengths",
    "Subject",
    "attention_entropy",
    "class_token_entropy",
    "compose",
    "domain_cka",
    "domain_similarity",
    "draw_class_token_entropy",
    "draw_similarities",
    "draw_similarity_curves",
    "draw_strengths",
    "draw_token_agreement",
    "explain",
    "explain_images",
    "explain_table",
    "learned_strengths",
    "linear_cka",
    "outline_truth",
    "panels",
    "similarity_curves",
    "state_similarity",
    "subject",
    "token_agreement",
]

"""stub"""


def markdown_page(shop):
    return "# hello"

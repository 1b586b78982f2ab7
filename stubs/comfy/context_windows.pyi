class IndexListContextWindow:
    index_list: list[int]

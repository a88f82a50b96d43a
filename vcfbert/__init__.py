"""vcfbert: genotype imputation with a retrieval-augmented BERT over alleles."""

__version__ = "0.2.0"

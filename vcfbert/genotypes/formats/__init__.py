"""Targets of other formats than VCF: PLINK 1 and PLINK 2.

``target_file`` finds the files that belong together, ``target_records`` is what all formats become, ``plink`` reads
them, ``plink_tables`` the tables beside the genotypes, and ``open_target`` opens a target of any format.
"""

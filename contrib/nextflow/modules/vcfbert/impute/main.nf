process VCFBERT_IMPUTE {
    tag "$meta.id"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "${ params.vcfbert_container ?: 'vcfbert/vcfbert:0.2.0' }"

    input:
    tuple val(meta), path(target), path(index)
    tuple val(meta2), path(bundle)

    output:
    tuple val(meta), path("${prefix}.vcf.gz"), emit: vcf
    tuple val(meta), path("${prefix}.vcf.gz.tbi"), emit: tbi
    tuple val(meta), path("${prefix}.qc.json"), emit: qc
    path "versions.yml", emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    vcfbert impute \
        --model ${bundle} \
        --target ${target} \
        --out ${prefix}.vcf.gz \
        --qc-report ${prefix}.qc.json \
        --threads ${task.cpus} \
        ${args}

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        vcfbert: \$(vcfbert --version)
    END_VERSIONS
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo | gzip > ${prefix}.vcf.gz
    touch ${prefix}.vcf.gz.tbi ${prefix}.qc.json

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        vcfbert: \$(vcfbert --version)
    END_VERSIONS
    """
}

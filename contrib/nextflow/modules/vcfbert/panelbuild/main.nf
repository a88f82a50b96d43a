process VCFBERT_PANELBUILD {
    tag "$meta.id"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "${ params.vcfbert_container ?: 'vcfbert/vcfbert:0.2.0' }"

    input:
    tuple val(meta), path(panel), path(index)
    path map

    output:
    tuple val(meta), path("${prefix}.panel"), emit: panel
    path "versions.yml", emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def map_option = map ? "--map ${map}" : ''
    """
    vcfbert panel build \
        --panel ${panel} \
        --out ${prefix}.panel \
        ${map_option} \
        ${args}

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        vcfbert: \$(vcfbert --version)
    END_VERSIONS
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir ${prefix}.panel

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        vcfbert: \$(vcfbert --version)
    END_VERSIONS
    """
}
